//! `homing config` as a process: what goes where, and the exit codes.

use std::process::{Command, Output};

use super::{BACKEND, LISTENER};

fn homing(arguments: &[&str], variable: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
    command.args(arguments).env_remove("HOMING_CONFIG");
    if let Some(value) = variable {
        command.env("HOMING_CONFIG", value);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_right_file_is_exit_code_0_and_warnings_go_to_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("homing.toml").display().to_string();
    std::fs::write(&path, format!("{LISTENER}{BACKEND}weight = 0\n")).unwrap();
    for (arguments, variable) in
        [(&["config", "check", "--config", &path][..], None), (&["config", "check"], Some(&*path))]
    {
        let output = homing(arguments, variable);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stdout), format!("{path}: no faults\n"));
        assert!(text(&output.stderr).contains("warning: every backend"));
    }
    let shown = homing(&["config", "show", "-c", &path], None);
    assert!(text(&shown.stdout).contains("[backend.mail1]\nhost = \"mail1.example.org\""));
}

#[test]
fn a_faulty_file_is_exit_code_2_with_every_fault_on_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("homing.toml").display().to_string();
    std::fs::write(&path, format!("{LISTENER}{BACKEND}wait = 0\n[fleet]\nlease = 1\n")).unwrap();
    for action in ["check", "show"] {
        let output = homing(&["config", action, "--config", &path], None);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(text(&output.stdout), "");
        let told = text(&output.stderr);
        assert!(
            told.contains("homing.toml:7:1") && told.contains("homing.toml:9:9") && told.contains("2 faults"),
            "{told}"
        );
    }
}

#[test]
fn the_default_file_is_printed() {
    let output = homing(&["config", "default"], None);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), homing::config::Config::default_file());
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(homing(&["config", "shov"], None).status.code(), Some(2));
    assert_eq!(homing(&["serve", "--backend", "a=h:1", "--backend", "a=h:2"], None).status.code(), Some(2));
    assert_eq!(homing(&["serve", "--config", "/nowhere/homing.toml"], None).status.code(), Some(2));
}
