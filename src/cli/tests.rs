//! The command line as operators type it.

use clap::CommandFactory;

use super::*;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn backends_can_be_named_several_times_with_any_kind_of_address() {
    let line = "homing serve --backend a=mail1.example.org:143 --backend b=[::1]:1143 --backend c=10.0.0.1:993 --listen \
                [::]:1143 --listen 127.0.0.1:0";
    assert!(parsed(line).is_ok());
}

#[test]
fn a_backend_without_name_host_or_port_is_refused_with_the_right_form() {
    for wrong in ["mail1", "mail1=host", "=host:143", "mail1=:143", "mail1=host:0", "mail1=::1:143", "a b=host:143"] {
        let error = Cli::try_parse_from(["homing", "serve", "--backend", wrong]).unwrap_err();
        assert!(error.to_string().contains("mail1=192.0.2.1:143"), "{wrong}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn a_file_and_backends_exclude_each_other() {
    assert!(parsed("homing serve --config x.toml --backend a=h:143").is_err());
    assert!(parsed("homing serve --listen 127.0.0.1:1143").is_err());
}

#[test]
fn bulk_work_is_begun_tried_or_told_what_to_do_but_one_at_a_time() {
    assert!(parsed("homing backend evict mail1 mail2 --dry-run").is_ok());
    assert!(parsed("homing backend rebalance --pause").is_ok());
    assert!(parsed("homing backend flush mail1 --pause --abort").is_err());
    assert!(parsed("homing backend drain").is_err(), "which?");
    assert!(parsed("homing backend add mail3 host=mail3.example.org port=143").is_ok());
}

#[test]
fn causes_are_told_in_one_line() {
    let error = anyhow::anyhow!("the disk is full").context("cannot write").context("cannot start");
    assert_eq!(chain(error.as_ref()), "cannot start: cannot write: the disk is full");
}

#[test]
fn a_number_is_told_in_words_that_fit_it() {
    assert_eq!([0, 1, 2].map(|number| count(number, "session")), ["0 sessions", "1 session", "2 sessions"]);
}

#[test]
fn a_demo_finds_redis_where_it_usually_is() {
    assert!(parsed("homing demo --redis --dovecot").is_ok());
    assert!(parsed("homing demo --redis redis://127.0.0.1:7777/").is_ok());
}

#[test]
fn passdbs_are_tried_for_somebody_and_forgotten_for_one_or_for_all() {
    assert!(parsed("homing auth test ann --password-file word --client 192.0.2.1 --json").is_ok());
    assert!(parsed("homing auth test").is_err(), "who?");
    assert!(parsed("homing auth flush --all").is_ok() && parsed("homing auth flush ann").is_ok());
    assert!(parsed("homing auth forgive 192.0.2.1").is_ok() && parsed("homing auth forgive").is_err());
    assert!(parsed("homing auth flush").is_err() && parsed("homing auth flush ann --all").is_err());
}
