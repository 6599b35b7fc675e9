//! `$((a * b))`: whole numbers, + - * / %, parentheses, variables.

use crate::unread::Place;

/// Brackets inside of brackets.
const MAX_DEPTH: usize = 64;

/// The value; `Err`: where it stands that something was missing. `value` tells what a variable holds.
pub(super) fn evaluate(text: &str, value: &dyn Fn(&str) -> Result<i64, Place>) -> Result<i64, Place> {
    let mut sum = Sum {
        rest: text.trim(),
        value,
        depth: 0,
    };
    let found = sum.terms()?;
    if sum.rest.is_empty() {
        Ok(found)
    } else {
        Err(expression())
    }
}

fn expression() -> Place {
    Place::new("a calculation of the start script")
}

struct Sum<'a> {
    rest: &'a str,
    value: &'a dyn Fn(&str) -> Result<i64, Place>,
    depth: usize,
}

impl Sum<'_> {
    fn operator(&mut self, of: &[char]) -> Option<char> {
        let first = self.rest.chars().next().filter(|c| of.contains(c))?;
        self.rest = self.rest[1..].trim_start();
        Some(first)
    }

    fn terms(&mut self) -> Result<i64, Place> {
        let mut value = self.factors()?;
        while let Some(operator) = self.operator(&['+', '-']) {
            let right = self.factors()?;
            let result = if operator == '+' {
                value.checked_add(right)
            } else {
                value.checked_sub(right)
            };
            value = result.ok_or_else(expression)?;
        }
        Ok(value)
    }

    fn factors(&mut self) -> Result<i64, Place> {
        let mut value = self.atom()?;
        while let Some(operator) = self.operator(&['*', '/', '%']) {
            let right = self.atom()?;
            let result = match operator {
                '*' => value.checked_mul(right),
                '/' => value.checked_div(right),
                _ => value.checked_rem(right),
            };
            value = result.ok_or_else(expression)?;
        }
        Ok(value)
    }

    fn atom(&mut self) -> Result<i64, Place> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(expression());
        }
        if self.operator(&['-']).is_some() {
            return self.atom().map(i64::saturating_neg);
        }
        if self.operator(&['(']).is_some() {
            let value = self.terms()?;
            return self.operator(&[')']).map(|_| value).ok_or_else(expression);
        }
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return word.parse().map_err(|_| expression());
        }
        if word.is_empty() {
            return Err(expression());
        }
        (self.value)(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_worked_out_or_missing() {
        let value = |name: &str| match name {
            "A" => Ok(2),
            "B" => Ok(8),
            _ => Err(Place::new("elsewhere")),
        };
        for (text, result) in [
            ("A * B", Some(16)),
            ("3 * (A + B) - 1", Some(29)),
            ("B/A%3", Some(1)),
            ("-A + 5", Some(3)),
            ("X * 2", None),
            ("1/0", None),
            ("9223372036854775807 + 1", None),
            ("1 << 2", None),
            ("", None),
            ("A ? 1 : 2", None),
        ] {
            assert_eq!(evaluate(text, &value).ok(), result, "{text}");
        }
        assert_eq!(evaluate("X * 2", &value).unwrap_err().text, "elsewhere");
        assert!(evaluate(&"(".repeat(5000), &value).is_err());
    }
}
