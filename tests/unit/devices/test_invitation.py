from app.devices.invitation import _steps


def test_a_phone_is_told_what_its_address_asks_of_it():
    public, lan, plain = (
        _steps(f"{base}/api/mobile/v1")
        for base in ("https://sms.example.com", "https://192.168.1.5:8443", "http://192.168.1.5:8000")
    )
    assert "app-release.apk" in public[0]
    assert "app-release.apk" in lan[0]
    assert "app-insecure.apk" in plain[0]
    assert [step for step in lan if step not in public] == [lan[1]]
    assert "http://192.168.1.5/smsfleet-ca.crt" in lan[1]
    assert len(plain) == len(public)
    named = ("smsfleet.lan", "gateway", "[fd00::1]")
    assert all(len(_steps(f"https://{host}/api/mobile/v1")) == len(lan) for host in named)
