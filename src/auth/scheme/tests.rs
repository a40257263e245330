//! Hashes as other programs make them.

use std::process::Command;

use super::*;

const PASSWORD: &str = "pässword 1";

/// Made by `doveadm pw`, `openssl passwd`, Python's crypt and Perl's.
const KNOWN: [&str; 25] = [
    "{PLAIN}pässword 1",
    "{CLEARTEXT}pässword 1",
    "{plain.b64}cMOkc3N3b3JkIDE=",
    "{SHA512-CRYPT}$6$PpDGtlb/2IngMZGx$PK6euPUwq1G3EyfdyzdpGVfr2U8GrbQiODdyT0FYoj0idjyce484ZUoCQsLhpxUnJ3.a4TeYeL8qp190p4zaj/",
    "{SHA512-CRYPT}$6$rounds=1000$V1sHT77j.VFhMDQT$qJ.jsfLihjRhfFwfbK3Cs5KuiBUywN7xeaClKJsK8jcSGPwC2jazWzdpxq9aokEYfzGL2pDakR7/YV7bhHXm00",
    "$6$a./b$.tth8GtN/eCuj01z.nAYmKZoRIXaDFy2UdmlMIZxlEGCti6tvehSJwfwkAsdC9Y1EY3SCWDdD8WnC1xusztBZ1",
    "$6$rounds=1400$anotherlongsalts$cpod0PkqlxmxyB4c2hiEdziAX.0bgm3I8uCPcu6ggUJpd72Np2iEA/pgJ317cvlmjyWqwfonKZ2Gl304FPtFP0",
    "{SHA256-CRYPT}$5$2KbbugJEGS5fFOga$.n73CkwiTmaO872cR8krKJtTHsDzzhzx4TdsdPsRWs2",
    "$5$e45QeWe40HB8cPPN$mGUoL/V0cyW3MzdnZafHHzu.6EJF6bzMS7rKC6o0qD0",
    "{BLF-CRYPT}$2y$05$KawqTLLP/EbCRp5YPYHvSewiLIY0Is6msfQc/LLt7rrP7rzUsaLgG",
    "{CRYPT}$2y$05$ozBPzFiS5sst73gRU1hPZ.lKGcp9HDd/Z3kA8OYybKccgy58WO/4G",
    "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VtO5t6ILUBAEROZ4c/NK9FZOMgYu9Vu",
    "$2b$05$CCCCCCCCCCCCCCCCCCCCC.VtO5t6ILUBAEROZ4c/NK9FZOMgYu9Vu",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$der0qVVx5w6byWuM0SaeAg$l/yW5NsLc4zfeifIbVvOgTyaKGY6Zl989kv7CQbd1kY",
    "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$LxI91TI44f45wGNR3lNtSg$1UJlFBw8Mjvm0FHEDeys1BKLOzBOZax1WiWfs6YsTdI",
    "{SHA}wBFJYYjnh5eS5Eft5JORpd7Gkko=",
    "{SHA1}wBFJYYjnh5eS5Eft5JORpd7Gkko=",
    "{SHA256}f7RERuWhObO3oHciFhtpNCnGhD0FNBL7CyE3AkK4vbA=",
    "{SHA256}7fb44446e5a139b3b7a07722161b693429c6843d053412fb0b21370242b8bdb0",
    "{SHA256.HEX}7fb44446e5a139b3b7a07722161b693429c6843d053412fb0b21370242b8bdb0",
    "{SHA512}CKWQ1bFe+6HuV0fkV78KrhRH5bOjFVbkHBnd8vTWw2lc3YVFx8X2I6wtGQoVpZVuVsftC++RLO5GPIvd7H4Lyg==",
    "{SSHA}eST2TlgBCLfCGNXIOlmTDncYlH9r4aVd",
    "{SSHA.HEX}42bb16db1454ed0df6163cd6cc8ed3b2b330f7d45b2ccaac",
    "{SSHA256}dHiGhx4BSs7a6af139fwPr7x3ovTId3Slpdk0WKV+V9VSYIp",
    "{SSHA512.B64}nIpAc0R8Y1rtPKwdHJGTGt3kOTzZRoU29foZugwAJ1gU7K5116Zf248l0qBBMa7uq2pA8agGk08pkoq9awiRfPiMcyw=",
];

fn crypt() -> Schemes {
    Schemes::new("CRYPT", true)
}

fn verify(stored: &str, password: &str) -> bool {
    let (stored, _) = Stored::parse(stored, &crypt()).unwrap_or_else(|fault| panic!("{stored}: {fault}"));
    stored.verify(password.as_bytes()).unwrap()
}

fn fault(stored: &str) -> Fault {
    Stored::parse(stored, &crypt()).err().unwrap_or_else(|| panic!("{stored} was taken"))
}

#[test]
fn hashes_of_other_programs_are_verified() {
    for stored in KNOWN {
        assert!(verify(stored, PASSWORD), "{stored}");
        for wrong in ["", "pässword 1 "] {
            assert!(!verify(stored, wrong), "{stored} took {wrong:?}");
        }
    }
}

#[test]
fn hashes_that_doveadm_makes_now_are_verified() {
    let schemes = [
        "PLAIN",
        "SHA512-CRYPT",
        "SHA256-CRYPT",
        "BLF-CRYPT",
        "ARGON2ID",
        "SSHA",
        "SSHA256",
        "SSHA512",
        "SHA256.HEX",
        "SSHA512.B64",
        "MD5-CRYPT",
        "PBKDF2",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "ARGON2I",
        "SHA",
        "SHA512",
        "SHA512-CRYPT.B64",
        "SCRAM-SHA-256.HEX",
        "PBKDF2.HEX",
        "SSHA.HEX",
        "PLAIN.HEX",
    ];
    for scheme in schemes {
        // Without Dovecot the recorded hashes above must do.
        let Ok(made) = Command::new("doveadm").args(["-O", "pw", "-s", scheme, "-p", PASSWORD]).output() else {
            return;
        };
        if made.status.success() {
            let stored = String::from_utf8(made.stdout).unwrap();
            assert!(verify(stored.trim_end(), PASSWORD), "{stored}");
            assert!(!verify(stored.trim_end(), "pässword"), "{stored}");
        }
    }
}

#[test]
fn a_locked_or_empty_password_matches_nothing() {
    for stored in ["", "{PLAIN}", "!", "!!", "*", "*LK*", "!$6$a./b$c"] {
        for password in ["", "!", "*", PASSWORD] {
            assert!(!verify(stored, password), "{stored:?} took {password:?}");
        }
    }
}

#[test]
fn a_password_is_compared_whole() {
    assert!(!verify("{PLAIN}short", "short\0tail"), "no C string ends early");
    assert!(!verify(KNOWN[3], "pässword 1\0tail"));
    let long = "x".repeat(MAX_PASSWORD + 1);
    assert!(!verify(&format!("{{PLAIN}}{long}"), &long), "bounded, for the work grows with it");
}

#[test]
fn hashes_that_would_cost_too_much_are_refused() {
    let salt_and_hash = "CCCCCCCCCCCCCCCCCCCCC.VtO5t6ILUBAEROZ4c/NK9FZOMgYu9Vu";
    let argon2 = |params: &str| {
        format!("$argon2id$v=19${params}$der0qVVx5w6byWuM0SaeAg$l/yW5NsLc4zfeifIbVvOgTyaKGY6Zl989kv7CQbd1kY")
    };
    let costly = [
        format!("$2y$31${salt_and_hash}"),
        format!("$2b$16${salt_and_hash}"),
        argon2("m=4194304,t=1,p=1"),
        argon2("m=65536,t=1000,p=1"),
        argon2("m=65536,t=3,p=255"),
        format!("$6$rounds=999999999$salt${}", "x".repeat(86)),
        format!("$5$rounds=1000001$salt${}", "x".repeat(43)),
        "{SCRAM-SHA-256}1000001,c2FsdA==,AAAA,AAAA".to_owned(),
        "{PBKDF2}$1$salt$1000001$7fb44446e5a139b3b7a07722161b693429c6843d".to_owned(),
    ];
    for stored in costly {
        assert!(matches!(fault(&stored), Fault::TooCostly(_)), "{stored}");
    }
}

#[test]
fn malformed_hashes_are_refused_when_read() {
    let malformed = [
        "$6$salt",
        "$6$salt$short",
        "$6$$hash",
        "$6$rounds=x$salt$hash",
        "$6$rounds=10$salt$hash",
        "$5$",
        "$2y$05$short",
        "$2y$xx$CCCCCCCCCCCCCCCCCCCCC.VtO5t6ILUBAEROZ4c/NK9FZOMgYu9Vu",
        "$2y$03$CCCCCCCCCCCCCCCCCCCCC.VtO5t6ILUBAEROZ4c/NK9FZOMgYu9Vu",
        "$argon2id$",
        "$argon2id$v=19$m=65536,t=3,p=1",
        "$argon2id$v=19$m=1,t=0,p=0$der0qVVx5w6byWuM0SaeAg$l/yW",
        "{SSHA}wBFJYYjnh5eS5Eft5JORpd7Gkko=",
        "{SHA256}AAAA",
        "{SHA256.HEX}zz",
        "{SHA.B64}?",
        "$1$saltsalt$short",
        "$1$saltsalt9$7890123456789012345678",
        "{PBKDF2}$1$salt$0$7fb44446e5a139b3b7a07722161b693429c6843d",
        "{PBKDF2}$1$salt$5000$7fb4",
        "{SCRAM-SHA-256}4096,c2FsdA==,AAAA,AAAA",
        "{SCRAM-SHA-256}4096,c2FsdA==",
    ];
    for stored in malformed {
        assert_eq!(fault(stored), Fault::BadHash, "{stored}");
    }
}

#[test]
fn what_cannot_be_verified_is_refused_without_quoting_it() {
    for stored in ["{MD5-CRYPT}$1$7ZNTMUDb$/0NkfbhMIotlATDNqVGq81", "$1$7ZNTMUDb$/0NkfbhMIotlATDNqVGq81"] {
        let fault = Stored::parse(stored, &Schemes::new("CRYPT", false)).err();
        assert_eq!(fault, Some(Fault::WeakScheme("MD5-CRYPT")), "{stored}");
    }
    assert_eq!(fault("{CRAM-MD5}abc"), Fault::UnsupportedScheme("CRAM-MD5"));
    assert_eq!(fault("{s3cret}word"), Fault::UnknownScheme);
    assert_eq!(fault("{PLAIN.s3cret}word"), Fault::UnknownScheme);
    assert_eq!(fault("s3cret"), Fault::UnknownHash);
    for stored in ["{s3cret}word", "{PLAIN.s3cret}word", "s3cret"] {
        assert!(!fault(stored).to_string().contains("s3cret"));
    }
}

#[test]
fn text_without_a_scheme_has_the_configured_one() {
    let (stored, _) = Stored::parse("s3cret", &Schemes::new("PLAIN", false)).unwrap();
    assert!(stored.verify(b"s3cret").unwrap());
}

#[test]
fn equal_parameters_are_equal_costs() {
    let cost = |stored: &str| Stored::parse(stored, &crypt()).unwrap().1;
    assert_eq!(cost(KNOWN[5]), cost(KNOWN[3]));
    assert_ne!(cost(KNOWN[4]), cost(KNOWN[3]));
    assert_ne!(cost(KNOWN[7]), cost(KNOWN[3]));
    assert_eq!(cost(KNOWN[9]), Cost::Bcrypt(5));
    assert_eq!(cost(KNOWN[0]), Cost::Cheap);
}

#[test]
fn md5_crypt_is_what_openssl_makes_of_it() {
    // `openssl passwd -1 -salt SALT PASSWORD`: lengths around the sixteen bytes of a sum.
    for (stored, password) in [
        ("$1$7ZNTMUDb$hp8L.FgTOhqZ2QSRz6AU41", "x"),
        ("$1$ab$KPbsrH8h5k2KfaQeRBFJY/", "0123456789abcdef"),
        ("$1$saltsalt$87wB/HkChQMCKMiRrvEYS1", "a password that is longer than one sum of sixteen bytes"),
    ] {
        assert!(verify(stored, password), "{stored}");
        assert!(!verify(stored, "y"), "{stored}");
    }
}

#[test]
fn the_keys_of_a_scram_exchange_can_be_read_from_what_is_stored() {
    // RFC 7677 section 3: user "user", password "pencil".
    let stored = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                  wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert!(verify(stored, "pencil") && !verify(stored, "pen"));
    let (stored, cost) = Stored::parse(stored, &crypt()).unwrap();
    let keys = stored.scram_keys().unwrap();
    assert_eq!((keys.rounds.get(), keys.salt.len(), keys.server_key.len()), (4096, 16, 32));
    assert_eq!(cost, Cost::Derived { hash: Hash::Sha256, rounds: 4096 });
}
