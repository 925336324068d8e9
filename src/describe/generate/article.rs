//! "a" or "an" by sound, for queries in any model's good English.

/// Beginnings that are written with a vowel and spoken with a consonant: "a unicorn", "a one-way street", "a ewe".
const SPOKEN_CONSONANT: [&str; 16] =
    ["uni", "use", "usa", "usu", "uti", "ura", "uku", "eu", "ewe", "one-", "once", "ouija", "ubiq", "ufo", "urol", "uvu"];
/// Words among them that are vowels after all: "an unimportant …", "an uninvited …".
const SPOKEN_VOWEL: [&str; 4] = ["unin", "unim", "unid", "usurp"];
/// Beginnings with a silent h: "an hour".
const SILENT_H: [&str; 5] = ["hour", "heir", "honest", "honor", "honor"];

/// The indefinite article by the sound of the first word: "a university", "an hour", "an SUV". Empty if the name brings
/// a determiner of its own ("the sea"). LaFTer's own rule, by letter, is [`article`](crate::describe::article).
///
/// ```
/// use lafter::describe::generate::article_by_sound as article;
/// assert_eq!(["airplane", "university", "hourglass", "SUV", "8-ball", "the sea"].map(article), ["an", "a", "an", "an", "an", ""]);
/// ```
pub fn article_by_sound(name: &str) -> &'static str {
    let word = name.trim_start().split([' ', '_', ',']).next().unwrap_or("");
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()); // the question mark of "Is it an SUV?"
    let lower = word.to_lowercase();
    let starts = |list: &[&str]| list.iter().any(|start| lower.starts_with(start));
    let Some(first) = lower.chars().next() else { return "a" };
    if ["the", "a", "an"].contains(&lower.as_str()) && name.trim().contains(' ') {
        return "";
    }
    let spelled = word.chars().count() > 1
        && word.chars().count() <= 5
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-')
        && !word.chars().any(|c| "AEIOU".contains(c) && word.chars().count() > 3);
    let vowel = if spelled && first.is_ascii_alphabetic() || is_single_letter(word) {
        "aefhilmnorsx".contains(first) // the names of these letters begin with a vowel
    } else if first.is_ascii_digit() {
        let digits: String = lower.chars().take_while(char::is_ascii_digit).collect();
        first == '8' || (digits == "11" || digits == "18") // eight, eleven, eighteen, eighty
    } else if lower == "one" || starts(&SPOKEN_CONSONANT) && !starts(&SPOKEN_VOWEL) {
        false
    } else {
        "aeiouàáâäåæèéêëìíîïòóôöøùúûü".contains(first) || starts(&SILENT_H)
    };
    if vowel { "an" } else { "a" }
}

/// "X-ray", "T-shirt", "f": the first letter is spoken by its name.
fn is_single_letter(word: &str) -> bool {
    let mut chars = word.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    first && chars.next().is_none_or(|c| c == '-') && !matches!(word, "a" | "A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_sound_and_not_by_letter() {
        let an = [
            "owl",
            "hourglass",
            "heirloom",
            "SUV",
            "SUV?",
            "\"owl\"",
            "X-ray",
            "MRI",
            "8-ball",
            "11th hour",
            "umbrella",
            "uninhabited island",
            "Émeu",
            "ice_cream",
        ];
        let a = [
            "unicorn",
            "European robin",
            "one-way street",
            "UFO",
            "T-shirt",
            "house",
            "yew",
            "ukulele",
            "7up",
            "Hut",
            "犬",
            "",
            "usable thing",
        ];
        for name in an {
            assert_eq!(article_by_sound(name), "an", "{name}");
        }
        for name in a {
            assert_eq!(article_by_sound(name), "a", "{name}");
        }
        assert_eq!(article_by_sound("The Eiffel Tower"), "");
    }
}
