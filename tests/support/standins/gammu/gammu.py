"""Stands in for python-gammu: the documented part of its interface, over a folder of JSON files.

`STANDIN_FOLDER/sent.jsonl` gets what is sent, one part a line; `STANDIN_FOLDER/modem/<location>.json` are the SMS and
status reports on the modem. A number that ends in 99 is refused by the network. While there is a file `unplugged` the
modem is gone, `missed` gets a line for each time it was looked for, and `plugs` for each time it was plugged in again:
what was opened before never works again.
"""

import json
import os
from datetime import datetime
from pathlib import Path

FOLDER = Path(os.environ["STANDIN_FOLDER"])
PART = 153


class GSMError(Exception):
    pass


class ERR_EMPTY(GSMError):  # noqa: N801, N818  (its name there)
    pass


class ERR_TIMEOUT(GSMError):  # noqa: N801, N818  (its name there)
    pass


class ERR_DEVICENOTEXIST(GSMError):  # noqa: N801, N818  (its name there)
    pass


class ERR_DEVICEWRITEERROR(GSMError):  # noqa: N801, N818  (its name there)
    pass


class ERR_GETTING_SMSC(GSMError):  # noqa: N801, N818  (its name there)
    pass


class ERR_UNKNOWN(GSMError):  # noqa: N801, N818  (its name there)
    pass


def EncodeSMS(info):  # noqa: N802  (its name there)
    (entry,) = info["Entries"]
    assert entry["ID"] == "ConcatenatedTextLong"
    assert info["Class"] == -1
    text, size = entry["Buffer"], 67 if info["Unicode"] else PART
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    coding = "Unicode_No_Compression" if info["Unicode"] else "Default_No_Compression"
    return [
        {"Text": piece, "Coding": coding, "Type": "Submit", "UDH": {"AllParts": len(pieces), "PartNumber": at}}
        for at, piece in enumerate(pieces, 1)
    ]


def LinkSMS(messages):  # noqa: N802  (its name there)
    groups, single = {}, []
    for parts in messages:
        for part in parts:
            udh = part.get("UDH") or {}
            if udh.get("AllParts", -1) > 1:
                groups.setdefault((part["Number"], udh["ID8bit"]), []).append(part)
            else:
                single.append([part])
    return single + [sorted(group, key=lambda part: part["UDH"]["PartNumber"]) for group in groups.values()]


def DecodeSMS(parts):  # noqa: N802  (its name there)
    if len(parts) == 1:
        return None
    return {"Entries": [{"ID": "ConcatenatedTextLong", "Buffer": "".join(part["Text"] for part in parts)}]}


class StateMachine:
    def SetConfig(self, section, config):  # noqa: N802  (its name there)
        assert section == 0
        assert set(config) == {"Device", "Connection"}

    def ReadConfig(self, Filename):  # noqa: N802, N803  (its name there)
        assert Path(Filename).exists()

    def Init(self):  # noqa: N802  (its name there)
        (FOLDER / "modem").mkdir(exist_ok=True)
        self.plug = plugs()
        if (FOLDER / "unplugged").exists():
            with (FOLDER / "missed").open("a") as missed:
                missed.write("\n")
            raise ERR_DEVICENOTEXIST({"Text": "Error opening device, it doesn't exist.", "Code": 4})

    def is_gone(self):
        return (FOLDER / "unplugged").exists() or self.plug != plugs()

    def reach(self):
        if self.is_gone():
            raise ERR_DEVICEWRITEERROR({"Text": "Error writing to the device.", "Code": 11})

    def GetSignalQuality(self):  # noqa: N802  (its name there)
        self.reach()
        return {"SignalStrength": -61, "SignalPercent": 80, "BitErrorRate": 0}

    def Terminate(self):  # noqa: N802  (its name there)
        self.reach()

    def SendSMS(self, message):  # noqa: N802  (its name there)
        assert message["SMSC"] == {"Location": 1}
        if self.is_gone():
            raise ERR_GETTING_SMSC({"Text": "Failed to get SMSC number from phone.", "Code": 69})
        if message["Number"].endswith("99"):
            raise ERR_UNKNOWN({"Text": "the network refused", "Code": 500})
        if message["Number"].endswith("98"):
            raise ERR_TIMEOUT({"Text": "no answer", "Code": 14})
        file = FOLDER / "sent.jsonl"
        reference = len(file.read_text().splitlines()) % 256 if file.exists() else 0
        with file.open("a") as sent:
            sent.write(json.dumps(message) + "\n")
        if message["Type"] == "Status_Report":
            status = {"97": 0x46, "96": 0x30}.get(message["Number"][-2:], 0)
            put({"Type": "Status_Report", "MessageReference": reference, "DeliveryStatus": status} | number_of(message))
        return reference

    def GetNextSMS(self, Folder, Start=False, Location=None):  # noqa: N802, N803, FBT002  (its name there)
        assert Folder == 0
        self.reach()
        after = 0 if Start else Location
        for location in sorted(int(file.stem) for file in (FOLDER / "modem").glob("*.json")):
            if location > after:
                message = json.loads((FOLDER / "modem" / f"{location}.json").read_text())
                message["DateTime"] = datetime.fromisoformat(message.get("DateTime", "2026-11-22T07:00:00"))
                return [message | {"Location": location, "Folder": 0}]
        raise ERR_EMPTY({"Text": "Empty entry", "Code": 28})

    def DeleteSMS(self, Folder, Location):  # noqa: N802, N803  (its name there)
        assert Folder == 0
        self.reach()
        (FOLDER / "modem" / f"{Location}.json").unlink()


def plugs():
    return (FOLDER / "plugs").read_text() if (FOLDER / "plugs").exists() else ""


def number_of(message):
    return {"Number": message["Number"]}


def put(message):
    folder = FOLDER / "modem"
    folder.mkdir(exist_ok=True)
    location = max((int(file.stem) for file in folder.glob("*.json")), default=0) + 1
    half = folder / f"{location}.half"
    half.write_text(json.dumps(message))
    half.rename(folder / f"{location}.json")
