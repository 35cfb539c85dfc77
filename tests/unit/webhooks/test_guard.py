"""Which URLs and addresses a webhook may go to."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.settings import get_settings
from app.webhooks.client import _guarded_socket
from app.webhooks.guard import ForbiddenAddressError, check_address, check_url_text, host_of, origin_of

INTERNAL = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
INTERNAL_V6 = (
    "::/128",
    "::1/128",
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "223.255.255.254")

# Spellings that lists of tricks for getting past such guards collect.
TRICKS = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://0177.1/",
    "http://00000177.0.0.01/",
    "http://127.0.0.1./",
    "http://127.000.000.001/",
    "http://3232235521/",
    "http://0xc0a80001/",
    "http://10.1/",
    "http://169.254.169.254/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000::1]:80/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a00:1::1]/",
    "http://[2001:0:a00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://[ff02::1]/",
    "http://[fec0::1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[2606:4700::5efe:10.0.0.1]/",
    "http://[fd00::5efe:8.8.8.8]/",
    "http://[fe80::200:5efe:808:808]/",
    "http://[::5efe:808:808]/",
    "http://[ff02::5efe:808:808]/",
    "http://[2002:808:808::5efe:10.0.0.1]/",
    "http://[2002:a00:1::5efe:8.8.8.8]/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://a.localhost/",
    "http://localhost:8000/",
    "http://user@127.0.0.1/",
    "http://8.8.8.8@127.0.0.1/",
    "http://127.0.0.1:80@example.com/",
    "http://example.com:80@127.0.0.1/",
    "http://:@example.com/",
    "http://@example.com/",
    "http:127.0.0.1",
    "http:/127.0.0.1",
    "//127.0.0.1",
    "///127.0.0.1",
    "http:///127.0.0.1",
    "http://%31%32%37.0.0.1/",
    "http://127%2e0%2e0%2e1/",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
    "http://1.1.1.256/",
    "http://0x/",
    "http://1e3.0.0.1.0x1/",
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:-1/",
    "http://example.com:x/",
    "http://",
    "http://./",
    "http://../",
    "file:///etc/passwd",
    "gopher://example.com/",
    "ftp://example.com/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "unix:///x",
    "jar:http://example.com!/",
    "HTTP+UNIX://x/",
    "dict://example.com/",
    "ldap://example.com/",
    "http://[::1",
    "http://::1/",
    "http://[]/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    "http://127\u30020\u30020\u30021/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/",
    "http://loc\xadalhost/",
    "http://%6c%6f%63alhost/",
    "http://-example.com/",
    "http://example-.com/",
    "http://exa$mple.com/",
    "http://.example.com/",
    "http://example..com/",
]


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch):
    monkeypatch.setenv("SMSFLEET_WEBHOOK_ALLOWED_NETWORKS", "")
    get_settings.cache_clear()
    check_address.cache_clear()
    yield
    get_settings.cache_clear()
    check_address.cache_clear()


def inside(networks):
    """Addresses of all the networks, first and last of each among them."""
    made = [ipaddress.ip_network(one) for one in networks]
    return st.one_of(
        *(st.integers(int(n.network_address), int(n.broadcast_address)).map(type(n.network_address)) for n in made)
    )


def refused(address) -> bool:
    try:
        check_address(str(address))
    except ForbiddenAddressError:
        return True
    return False


def complaint(url: str) -> str | None:
    try:
        check_url_text(url)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("url", TRICKS)
def test_tricky_spellings_are_refused(url) -> None:
    with pytest.raises(ValueError, match=r"^The \{name\} field must "):
        check_url_text(url)


@pytest.mark.parametrize("url", [f"http://example.com/{c}x" for c in " \t\r\n\0\x7f\u2028\u3000"])
def test_blanks_and_control_characters_are_refused(url) -> None:
    with pytest.raises(ValueError, match="spaces"):
        check_url_text(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/sms/callback",
        "HTTPS://Example.COM",
        "http://example.com:8080/a/b?c=d&e=%20f#g",
        "https://hooks.example.co.uk/@user/x",
        "https://xn--mnchen-3ya.de/",
        "https://m\xfcnchen.de/stra\xdfe",
        "http://intranet/hook",
        "http://nowhere.invalid/",
        "https://a_b.example.com/",
        "http://8.8.8.8/",
        "http://[2606:4700:4700::1111]:8443/x",
        "https://local.example.com/",
        "https://example.com/x?url=http://127.0.0.1/",
        "https://1password.example/",
        "https://3com.com/",
    ],
)
def test_ordinary_urls_are_taken(url) -> None:
    check_url_text(url)
    assert host_of(origin_of(url))


@given(inside(INTERNAL))
def test_no_internal_address_in_any_spelling_or_wrapping(address) -> None:
    number = int(address)
    assert refused(address)
    assert refused(ipaddress.IPv6Address((0xFFFF << 32) | number))
    assert refused(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | number))
    assert refused(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1))
    assert refused(ipaddress.IPv6Address(number))
    octets = str(address).split(".")
    spellings = [
        str(address),
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(f"0x{int(octet):x}" for octet in octets),
        ".".join(f"0{int(octet):o}" for octet in octets),
        f"{octets[0]}.{number & 0xFFFFFF}",
        f"[::ffff:{address}]",
        f"[64:ff9b::{address}]",
    ]
    for spelling in spellings:
        with pytest.raises(ValueError, match=r"^The \{name\} field must "):
            check_url_text(f"http://{spelling}/")


@given(inside(INTERNAL_V6))
def test_no_internal_address_of_version_six(address) -> None:
    assert refused(address)
    with pytest.raises(ValueError, match="private, local or reserved"):
        check_url_text(f"https://[{address}]/")


@given(inside(INTERNAL_V6), st.sampled_from(PUBLIC), st.sampled_from((0x00005EFE, 0x02005EFE)))
def test_a_public_address_inside_opens_no_internal_one_of_version_six(prefix, inner, form) -> None:
    tunnelled = (int(prefix) >> 64 << 64) | (form << 32) | int(ipaddress.IPv4Address(inner))
    assert refused(ipaddress.IPv6Address(tunnelled))
    check_address(str(ipaddress.IPv6Address((0x26064700 << 96) | (form << 32) | int(ipaddress.IPv4Address(inner)))))


@given(st.ip_addresses(v=4).filter(lambda a: not any(a in ipaddress.ip_network(n) for n in INTERNAL)))
def test_public_addresses_are_taken_where_python_takes_them(address) -> None:
    if address.is_global and not str(address).startswith(("192.31.196.", "192.52.193.", "192.175.48.")):
        check_address(str(address))
        check_address(f"::ffff:{address}")
        check_address(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(address))))


@pytest.mark.parametrize("address", PUBLIC)
def test_neighbours_of_internal_networks_are_public(address) -> None:
    check_address(address)


@given(st.text(max_size=60))
def test_any_text_is_judged_and_never_breaks(text) -> None:
    for url in (
        text,
        f"http://{text}",
        f"https://{text}/",
        f"http://example.com:{text}",
        f"https://example.com/{text}",
    ):
        sentence = complaint(url)
        assert sentence is None or sentence.startswith("The {name} field must ")
        assert sentence or len(origin_of(url)) <= 300


@given(st.text("0123456789abcdefx.:[]%@-", min_size=1, max_size=24))
def test_what_the_system_would_read_as_an_internal_address_is_refused(host) -> None:
    """Whatever passes as a name must not be a spelling that a resolver turns into an address without asking anyone."""
    if complaint(f"http://{host}/"):
        return
    name = host_of(origin_of(f"http://{host}/")).strip("[]")
    try:
        literal = socket.getaddrinfo(name, 80, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return
    for *_, address in literal:
        check_address(address[0])


def test_allowed_networks_open_what_they_name_and_nothing_else(monkeypatch) -> None:
    monkeypatch.setenv("SMSFLEET_WEBHOOK_ALLOWED_NETWORKS", "10.1.0.0/16, fd00::/8")
    get_settings.cache_clear()
    for url in ("http://10.1.2.3/", "http://[fd12::1]/", "http://[::ffff:10.1.2.3]/"):
        check_url_text(url)
    for url in ("http://10.2.0.1/", "http://127.0.0.1/", "http://localhost/", "http://[fc00::1]/"):
        with pytest.raises(ValueError, match="private"):
            check_url_text(url)


def test_the_socket_is_never_made_for_a_forbidden_address() -> None:
    for address in ("127.0.0.1", "10.0.0.1", "::1", "fe80::1%eth0"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(ForbiddenAddressError):
            _guarded_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))


def test_one_origin_has_one_spelling() -> None:
    assert origin_of("HTTPS://Example.com/x?y#z") == "https://example.com:443"
    assert origin_of("http://example.com.:8080") == "http://example.com:8080"
    assert origin_of("https://münchen.de/") == origin_of("https://xn--mnchen-3ya.de:443/a")
    assert host_of(origin_of("http://[2606:4700::1]:80/")) == "[2606:4700::1]"
