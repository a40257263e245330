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
        ("Tue, 1 Apr 2025 08:30:00", "Welcome home", "Postmaster <postmaster@homing.example>", welcome.as_str()),
        ("Wed, 2 Apr 2025 16:05:00", "One proxy less", "\"The operators\" <operators@homing.example>", kill),
        ("Thu, 3 Apr 2025 11:47:00", "Umlauts", "Carol <carol@homing.example>", accents),
    ]
    .iter()
    .enumerate()
    .map(|(number, (date, subject, from, text))| compose(user, number + 1, [date, subject, from, text]))
    .collect()
}

fn compose(user: &str, number: usize, [date, subject, from, text]: [&str; 4]) -> Vec<u8> {
    format!(
        "Date: {date} +0000\n\
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
