//! Which algorithms are offered: those of OpenSSH's own defaults that the library has, and nothing weaker.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

use super::known_hosts::Known;

const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// What is offered to a host, the sorts of keys that are known of it first.
pub(super) fn preferred(known: &Known) -> Preferred {
    let mut keys = vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ];
    keys.sort_by_key(|sort| {
        // RSA keys have one sort, and several ways to sign.
        let is_rsa = sort.clone().is_rsa();
        !known.has_sort(|key| key.algorithm() == *sort || (is_rsa && key.algorithm().is_rsa()))
    });
    Preferred {
        kex: Cow::Borrowed(KEY_EXCHANGES),
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// What is to be said of the key exchanges with the jump hosts, by place, and with the host, where OpenSSH may have taken
/// stronger ones.
pub(super) fn weaker(jumps: &[(String, String)], host: Option<&str>) -> Option<String> {
    let is_weaker = |exchange: &str| exchange != kex::MLKEM768X25519_SHA256.as_ref();
    let host = host.filter(|exchange| is_weaker(exchange));
    let weak = jumps.iter().filter(|(_, exchange)| is_weaker(exchange));
    let mut with: Vec<String> =
        weak.map(|(place, exchange)| format!("with the jump host {place} is {exchange}")).collect();
    match (with.is_empty(), host) {
        (true, None) => return None,
        (true, Some(exchange)) => with.push(format!("is {exchange}")),
        (false, host) => with.extend(host.map(|exchange| format!("with the host is {exchange}"))),
    }
    Some(format!(
        "the key exchange {}, which is not post-quantum: mlkem768x25519-sha256 is not offered there, and the built-in \
         client has no sntrup761x25519-sha512 that OpenSSH may take (--transport openssh)",
        with.join(", and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_offered() {
        let offered = preferred(&Known::default());
        let names = (offered.kex.iter().map(AsRef::<str>::as_ref))
            .chain(offered.cipher.iter().map(AsRef::as_ref))
            .chain(offered.mac.iter().map(AsRef::as_ref))
            .map(str::to_owned)
            .chain(offered.key.iter().map(ToString::to_string));
        for name in names {
            for weak in ["sha1", "cbc", "3des", "none", "group1-", "md5", "arcfour", "ssh-rsa", "ssh-dss"] {
                assert!(!name.contains(weak), "{name}");
            }
        }
        assert_eq!(offered.kex.first().map(AsRef::<str>::as_ref), Some("mlkem768x25519-sha256"));
    }

    #[test]
    fn the_weaker_exchange_is_named_wherever_it_is() {
        let (strong, weak) = ("mlkem768x25519-sha256", "curve25519-sha256");
        let jump = |exchange: &str| vec![("gate port 22".to_owned(), exchange.to_owned())];
        let begins = |jumps: &[(String, String)], host, expected: &str| {
            let text = weaker(jumps, host).unwrap();
            assert!(text.starts_with(&format!("the key exchange {expected}, which is not")), "{text}");
        };
        assert_eq!(weaker(&jump(strong), Some(strong)), None);
        assert_eq!(weaker(&[], Some(strong)), None);
        begins(&[], Some(weak), "is curve25519-sha256");
        begins(&jump(weak), Some(strong), "with the jump host gate port 22 is curve25519-sha256");
        let both =
            "with the jump host gate port 22 is curve25519-sha256, and with the host is curve25519-sha256";
        begins(&jump(weak), Some(weak), both);
    }
}
