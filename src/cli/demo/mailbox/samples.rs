//! The messages that every user of the demo finds.

/// What is in a new INBOX.
pub(in super::super) fn samples(user: &str) -> Vec<Vec<u8>> {
    let welcome = format!(
        "Hello {user},\n\n\
         whichever proxy you came through, the same server sent you this message,\n\
         and it will again: log in through the other one and compare.\n\n\
         `a ID NIL` tells you its name.\n"
    );
    let kill = "Dear all,\n\n\
         one of the two proxies may go away at any time, without a word. Nobody needs\n\
         to do anything: your mail program connects again and reaches the other one,\n\
         which sends you to the server that has your index files.\n\n\
         The operators\n";
    let accents =
        "Grüße aus Köln!\n\nThis one is in UTF-8, 8bit, with a line that begins with a dot:\n.\nand goes on.\n";
    [
        ("Welcome home", "Postmaster <postmaster@homing.example>", welcome.as_str()),
        ("One proxy less", "\"The operators\" <operators@homing.example>", kill),
        ("Umlauts", "Carol <carol@homing.example>", accents),
    ]
    .iter()
    .enumerate()
    .map(|(number, (subject, from, text))| compose(user, number + 1, subject, from, text))
    .collect()
}

fn compose(user: &str, number: usize, subject: &str, from: &str, text: &str) -> Vec<u8> {
    format!(
        "Date: Tue, 0{number} Apr 2025 09:0{number}:00 +0000\n\
         From: {from}\n\
         To: {user}@homing.example\n\
         Subject: {subject}\n\
         Message-ID: <demo.{number}.{user}@homing.example>\n\
         MIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\
         \n\
         {text}"
    )
    .replace('\n', "\r\n")
    .into_bytes()
}
