//! Our two sides against each other, in every protocol: what the one says the other takes for the same.

use homing::model::{Protocol, Refusal, Secret, SessionId};
use homing::protocol::{
    Announcement, Backend, BackendLogin, BackendRefusal, BackendWish, Bounds, ClientWish, Errand, Frontend,
    FrontendSettings, Handover, Input, Output, spoken,
};
use proptest::prelude::*;

use crate::SPOKEN;

const BOUNDS: Bounds = Bounds { line: 4096, literal: 1024, commands: 9, errors: 1, failures: 2 };

/// A proxy, and another one in front of it.
struct Mirror {
    frontend: Box<dyn Frontend>,
    backend: Box<dyn Backend>,
    /// What the frontend hears, and what the backend hears.
    inputs: [Input; 2],
    out: Output,
}

impl Mirror {
    fn new(protocol: Protocol, login: BackendLogin) -> Self {
        let settings = FrontendSettings {
            secured: !login.starttls,
            starttls: login.starttls,
            plaintext_login: false,
            banner: "hi".to_owned(),
            host: "proxy.example".to_owned(),
            offers: std::sync::Arc::default(),
            sasl: std::sync::Arc::default(),
            bounds: BOUNDS,
        };
        let mut mirror = Self {
            frontend: spoken::frontend(protocol, settings).expect("it has logins"),
            backend: spoken::backend(protocol, Errand::Session, login).expect("it has logins"),
            inputs: [BOUNDS.line, 64 * 1024].map(Input::with_capacity),
            out: Output::new(),
        };
        mirror.frontend.greet(&mut mirror.out);
        mirror.tell_backend();
        mirror
    }

    fn tell_backend(&mut self) {
        tell(&mut self.out, &mut self.inputs[1]);
    }

    fn tell_frontend(&mut self) {
        tell(&mut self.out, &mut self.inputs[0]);
    }

    /// Lets both talk until one of them has a wish; both, if it is TLS.
    fn talk(&mut self) -> (Option<ClientWish>, Option<BackendWish>) {
        for _ in 0..50 {
            let asked = self.backend.advance(&mut self.inputs[1], &mut self.out).expect("our own words");
            self.tell_frontend();
            let wished = self.frontend.advance(&mut self.inputs[0], &mut self.out).expect("our own words");
            self.tell_backend();
            if let Some(ClientWish::StartTls) = wished {
                let asked = self.backend.advance(&mut self.inputs[1], &mut self.out).expect("our own words");
                assert!(matches!(asked, Some(BackendWish::StartTls)), "{asked:?}");
                self.frontend.secured();
                self.backend.secured(&mut self.out);
                self.tell_frontend();
                continue;
            }
            if wished.is_some() || asked.is_some() {
                return (wished, asked);
            }
        }
        panic!("they have nothing more to say to each other");
    }

    /// What the backend side makes of the frontend's answer to a login.
    fn verdict(&mut self, say: impl FnOnce(&mut dyn Frontend, &mut Output)) -> BackendWish {
        let (wished, _) = self.talk();
        assert!(matches!(wished, Some(ClientWish::Authenticate(_))), "{wished:?}");
        say(self.frontend.as_mut(), &mut self.out);
        self.tell_backend();
        loop {
            if let (None, Some(wish)) = self.talk() {
                return wish;
            }
        }
    }
}

fn tell(out: &mut Output, input: &mut Input) {
    assert_eq!(input.push(out.bytes()), out.bytes().len(), "no room");
    out.clear();
}

fn login(announce: bool, starttls: bool, pipelining: bool) -> BackendLogin {
    let announcement = Announcement {
        client: ([192, 0, 2, 7], 4711).into(),
        local: ([127, 0, 0, 1], 993).into(),
        session: SessionId::new("s1"),
        ttl: 4,
        secured: true,
        server_name: Some("mail.example".to_owned()),
        helo: None,
        client_id: Vec::new(),
    };
    BackendLogin {
        user: "anna".to_owned(),
        master: None,
        password: Secret::new(b"secret".to_vec()),
        announce: announce.then_some(announcement),
        starttls,
        pipelining,
        ..BackendLogin::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_login_that_our_backend_side_says_is_the_same_login_to_our_frontend_side(
        user in "[^\\p{Cc}]{1,24}", master in proptest::option::of("[^\\p{Cc}]{1,24}"),
        password in proptest::collection::vec(1_u8.., 1..300), flags: (bool, bool, bool),
    ) {
        for protocol in SPOKEN {
            let (announce, starttls, pipelining) = flags;
            let login = BackendLogin {
                user: user.clone(),
                master: master.clone(),
                password: Secret::new(password.clone()),
                ..login(announce, starttls, pipelining)
            };
            let mut mirror = Mirror::new(protocol, login);
            let Some(ClientWish::Authenticate(given)) = mirror.talk().0 else { panic!("a login") };
            let (authcid, authzid) = match &master {
                Some(master) if *master != user => (master, Some(&user)),
                _ => (&user, None),
            };
            prop_assert_eq!((&given.user, given.authzid.as_ref()), (authcid, authzid));
            prop_assert_eq!(given.password().unwrap().expose(), &password);
            prop_assert_eq!(mirror.frontend.proxy_ttl(), announce.then_some(4), "{:?}", protocol);
        }
    }

    #[test]
    fn what_our_frontend_side_answers_is_passed_on_by_our_backend_side(text in "[a-zA-Z0-9 ]{1,40}", flags: (bool, bool)) {
        for protocol in SPOKEN {
            let mut mirror = Mirror::new(protocol, login(flags.0, false, flags.1));
            let untagged = if protocol == Protocol::Imap { b"* CAPABILITY IMAP4rev1\r\n".to_vec() } else { Vec::new() };
            // ManageSieve has its words in quotes.
            let text = if protocol == Protocol::Sieve { format!("\"{text}\"") } else { text.clone() };
            let handover = Handover { untagged, text: text.into_bytes() };
            let heard = mirror.verdict(|frontend, out| frontend.welcome(&handover, out));
            let BackendWish::LoggedIn(heard) = heard else { panic!("{heard:?}") };
            prop_assert_eq!(heard, handover);
        }
    }

    #[test]
    fn what_our_frontend_side_refuses_for_now_is_temporary_to_our_backend_side(which in 0..11_usize, flags: (bool, bool)) {
        let refusals = [
            (Refusal::BadCredentials, false),
            (Refusal::PassdbUnavailable, true),
            (Refusal::StoreUnavailable, true),
            (Refusal::NoBackend, true),
            (Refusal::BackendUnavailable, true),
            (Refusal::BackendFull, true),
            (Refusal::HomeUnsettled, true),
            (Refusal::TooManySessions, true),
            (Refusal::TooManyFromAddress, true),
            (Refusal::TooManyLogins, true),
            (Refusal::ShuttingDown, true),
        ];
        for protocol in SPOKEN {
            let (why, temporary) = refusals[which];
            let mut mirror = Mirror::new(protocol, login(flags.0, false, flags.1));
            let heard = mirror.verdict(|frontend, out| frontend.refuse(why, out).expect("the first"));
            let BackendWish::Refused(heard) = heard else { panic!("{heard:?}") };
            prop_assert_eq!((heard.temporary, &heard.referral), (temporary, &None), "{:?} {:?}", protocol, heard);

            // And through the next proxy, in the same words.
            let mut next = Mirror::new(protocol, login(flags.0, false, flags.1));
            let again = next.verdict(|frontend, out| frontend.relay_refusal(&heard, out).expect("the first"));
            let BackendWish::Refused(BackendRefusal { text, temporary: still, .. }) = again else { panic!("{again:?}") };
            prop_assert_eq!((text, still), (heard.text, temporary));
        }
    }
}
