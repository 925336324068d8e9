//! Which hosts are reached through which proxy.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Error, Result};

/// The proxy for an address: of `http_proxy` or `https_proxy` by its scheme, else of `all_proxy`, each also in capitals; `None` for what is
/// reached directly. Empty variables count as not set.
///
/// # Errors
/// [`Error::Usage`] with the variable's name for what is no proxy that can be used.
pub(crate) fn proxy_for(address: &str) -> Result<Option<ureq::Proxy>> {
    if direct(address) {
        return Ok(None);
    }
    let Some((variable, value)) = chosen(address, |name| std::env::var(name).ok()) else { return Ok(None) };
    let value = value.trim();
    let (scheme, rest) = value.split_once("://").map_or(("http".into(), value), |(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    let scheme = if scheme == "socks5h" { "socks5" } else { &scheme }; // which resolves names, too
    ureq::Proxy::new(format!("{scheme}://{rest}")).map(Some).map_err(|_| {
        Error::Usage(format!("{variable} holds no proxy that can be used: write http://host:port or socks5://host:port, or unset it"))
    })
}

/// The variable that counts for an address, and its value.
fn chosen(address: &str, variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let own = if address.starts_with("http://") { ["http_proxy", "HTTP_PROXY"] } else { ["https_proxy", "HTTPS_PROXY"] };
    let names = own.into_iter().chain(["all_proxy", "ALL_PROXY"]);
    names.filter_map(|name| Some((name, variable(name)?))).find(|(_, value)| !value.trim().is_empty())
}

/// True if a proxy of the environment is not for this address: on this machine itself, and where `NO_PROXY` or `no_proxy`
/// says so.
fn direct(address: &str) -> bool {
    let name = host_name(address).to_ascii_lowercase();
    let local = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let listed = |variable: &str| std::env::var(variable).is_ok_and(|list| in_list(&name, &list));
    local || listed("NO_PROXY") || listed("no_proxy")
}

/// The name alone of `https://user@name:port/path`.
pub(crate) fn host_name(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or(six),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Entries are `*`, a name with all below it (with or without a dot before it, or `*.`), an address, or a block of them
/// (`10.0.0.0/8`); a port after them is not looked at.
fn in_list(name: &str, list: &str) -> bool {
    list.split([',', ' ']).map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((block, bits)) = entry.split_once('/') {
            return in_block(name, block, bits).unwrap_or(false);
        }
        let entry = if entry.parse::<IpAddr>().is_ok() { &entry } else { host_name(&entry) };
        let entry = entry.trim_start_matches('*').trim_start_matches('.');
        !entry.is_empty() && (name == entry || name.ends_with(&format!(".{entry}")))
    })
}

fn in_block(name: &str, block: &str, bits: &str) -> Option<bool> {
    let (name, block, bits) = (name.parse::<Ipv4Addr>().ok()?, block.parse::<Ipv4Addr>().ok()?, bits.parse::<u32>().ok()?);
    let mask = u32::MAX.checked_shl(32u32.checked_sub(bits)?).unwrap_or(0);
    Some(u32::from(name) & mask == u32::from(block) & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_chooses_the_proxy() {
        let of = |address: &str, set: &[(&str, &str)]| {
            chosen(address, |name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).into())).map(|(name, _)| name)
        };
        let all = [("HTTP_PROXY", "http://a:1"), ("https_proxy", "http://b:1"), ("ALL_PROXY", "socks5://c:1")];
        assert_eq!((of("http://x/y", &all), of("https://x", &all)), (Some("HTTP_PROXY"), Some("https_proxy")));
        assert_eq!(of("https://x", &all[2..]), Some("ALL_PROXY"));
        assert_eq!(of("https://x", &[("https_proxy", ""), ("ALL_PROXY", " ")]), None);
    }

    #[test]
    fn hosts_and_lists() {
        for (address, name) in
            [("https://a.b:8080/x?y", "a.b"), ("http://[::1]:9/x", "::1"), ("me:secret@host", "host"), ("127.0.0.1:80", "127.0.0.1")]
        {
            assert_eq!(host_name(address), name);
        }
        assert!(direct("http://localhost:1") && direct("http://127.0.0.1:1/x") && direct("http://[::1]:1"));
        for (list, name, inside) in [
            ("*", "any", true),
            ("", "any", false),
            ("localhost, 127.0.0.1, *.mirror.org", "any", false),
            ("*.mirror.org,", "any", false),
            ("other, *", "any", true),
            ("other, mirror.org", "mirror.org", true),
            (".mirror.org", "hub.mirror.org", true),
            ("*.mirror.org", "hub.mirror.org", true),
            ("mirror.org:8080", "mirror.org", true),
            ("mirror.org", "notmirror.org", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("::1", "::1", true),
        ] {
            assert_eq!(in_list(name, list), inside, "{name} in {list:?}");
        }
    }
}
