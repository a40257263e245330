//! INTERNALDATE: "17-Jul-1996 02:44:25 -0700" (RFC 3501 9, `date-time`) from and to seconds since 1970, UTC.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// From 1 March of the year 0 to 1 January 1970. Years begin in March here, so that a leap day is the last of its year.
const DAYS_TO_1970: u64 = 719_468;

/// As IMAP writes it.
pub(super) fn format(seconds: u64) -> String {
    let days = seconds / 86_400 + DAYS_TO_1970;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let name = MONTHS[usize::try_from(month).unwrap_or(0)]; // month < 12
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{day:2}-{name}-{year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// As clients write it; `None` unless it is a date from 1970 to 9999.
pub(super) fn parse(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    let mut date = date.split('-');
    let day = bounded(date.next()?, 1, 31)?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
    let year = bounded(date.next()?, 1970, 9999)?;
    let mut time = time.split(':');
    let (hour, minute) = (bounded(time.next()?, 0, 23)?, bounded(time.next()?, 0, 59)?);
    let second = bounded(time.next()?, 0, 60)?;
    let local = days(year, u64::try_from(month).ok()?, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let (sign, offset) = zone.split_at_checked(1)?;
    let (hours, minutes) = offset.split_at_checked(2)?;
    let offset = bounded(hours, 0, 23)? * 3600 + bounded(minutes, 0, 59)? * 60;
    match sign {
        "+" => local.checked_sub(offset),
        "-" => Some(local + offset),
        _ => None,
    }
}

fn bounded(digits: &str, least: u64, most: u64) -> Option<u64> {
    let number = u64::from(super::command::number(digits.as_bytes())?);
    (least..=most).contains(&number).then_some(number)
}

/// Days from 1970 to a date, `month` being 0 for January.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month < 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970
}
