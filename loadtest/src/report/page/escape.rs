//! Text from a record, made harmless for HTML.
//!
//! Responsible for the one way by which text gets into a page. Must never be left out: names of faults, callers and
//! commands are whatever somebody wrote.

use std::fmt::{self, Display, Write};

/// Shows as text what it is given, in elements and in quoted attributes.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                // Not allowed in HTML, whichever way it is written.
                '\0' => self.0.write_char(char::REPLACEMENT_CHARACTER)?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        let hostile = "</td><script>alert('1')</script>\" onload=\"x&amp;\0";
        let shown = Escaped(hostile).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'', '\0']), "{shown}");
        assert_eq!(Escaped("a & b").to_string(), "a &amp; b");
        assert_eq!(Escaped(7).to_string(), "7");
    }
}
