//! The expression of a custom metric: `inferences_positive / inferences`. Numbers, counts and sums of a key's rows,
//! `+ - * /` and parentheses; nothing else, so that it always ends and touches nothing.

use winnow::ascii::{digit1, multispace0};
use winnow::combinator::{
    Infix, alt, cut_err, delimited, dispatch, expression, fail, opt, terminated,
};
use winnow::prelude::*;
use winnow::token::{any, one_of, take_while};

use super::options::edit_distance;
use crate::engine::metrics::custom::{Expression, Input, Operator};

/// A longer text is no formula.
const LONGEST: usize = 1000;
/// Parentheses within parentheses: each level takes a piece of the stack.
const DEEPEST: usize = 32;
/// In several tables, which agree in it.
const SAME_EVERYWHERE: &str = "inferences";

/// What a text means, or what is wrong with it, as the end of a sentence about the expression.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > LONGEST {
        return Err(format!("has {} bytes; at most {LONGEST} are read", text.len()));
    }
    if depth(text) > DEEPEST {
        return Err(format!("has parentheses {} deep; at most {DEEPEST} are read", depth(text)));
    }
    // Before the grammar, so that a wrong name is told as such.
    for name in names(text) {
        resolve(name)?;
    }
    let expression = sum.parse(text).map_err(|error| {
        let rest: String =
            text.get(error.offset()..).unwrap_or_default().chars().take(20).collect();
        let can_be = "it is made of numbers, names, + - * / and parentheses";
        if rest.trim().is_empty() {
            format!("ends too early: {can_be}")
        } else {
            format!("is not understood at \"{rest}\": {can_be}")
        }
    })?;
    if expression.inputs().next().is_none() {
        return Err(format!("names no count or sum. {}", known()));
    }
    Ok(expression)
}

fn depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for sign in text.bytes() {
        match sign {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

fn is_part(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || sign == '_' || sign == '.'
}

fn begins_name(text: &str) -> bool {
    text.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '_')
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|sign| !is_part(sign)).filter(|part| begins_name(part))
}

/// The count or sum of a name, with its table or without.
fn resolve(name: &str) -> Result<Input, String> {
    let is_it = |input: &Input| input.column == name || input.name() == name;
    let found: Vec<Input> = Input::all().filter(is_it).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [first, ..] if name == SAME_EVERYWHERE => Ok(*first),
        [] => {
            let names = Input::all().flat_map(|input| [input.column.to_owned(), input.name()]);
            let closest = names.min_by_key(|known| edit_distance(name, known));
            let closest = closest.expect("there are some");
            let known = known();
            Err(format!(
                "has `{name}`, which is no count or sum; did you mean `{closest}`? {known}"
            ))
        }
        several => {
            let names: Vec<_> = several.iter().map(|input| format!("`{}`", input.name())).collect();
            let names = names.join(" or ");
            Err(format!("has `{name}`, which several tables have: write {names}"))
        }
    }
}

/// Every name, by table.
fn known() -> String {
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for input in Input::all() {
        match tables.last_mut().filter(|(table, _)| *table == input.table.name()) {
            Some((_, columns)) => columns.push(input.column),
            None => tables.push((input.table.name(), vec![input.column])),
        }
    }
    let tables = tables.iter().map(|(table, columns)| format!("{table}: {}", columns.join(", ")));
    format!("There are {}", tables.collect::<Vec<_>>().join("; "))
}

fn sum(text: &mut &str) -> ModalResult<Expression> {
    let join = dispatch! {any;
        '+' => Infix::Left(1, |_: &mut _, left: Expression, right| Ok(left.joined(Operator::Add, right))),
        '-' => Infix::Left(1, |_: &mut _, left: Expression, right| Ok(left.joined(Operator::Subtract, right))),
        '*' => Infix::Left(2, |_: &mut _, left: Expression, right| Ok(left.joined(Operator::Multiply, right))),
        '/' => Infix::Left(2, |_: &mut _, left: Expression, right| Ok(left.joined(Operator::Divide, right))),
        _ => fail,
    };
    expression(operand).infix(join).parse_next(text)
}

fn operand(text: &mut &str) -> ModalResult<Expression> {
    let minus = delimited(multispace0, opt('-'), multispace0);
    let group = delimited('(', cut_err(sum), cut_err(')'));
    let value = terminated(alt((number, name, group)), multispace0);
    let (minus, value) = (minus, value).parse_next(text)?;
    Ok(if minus.is_some() { value.negated() } else { value })
}

fn number(text: &mut &str) -> ModalResult<Expression> {
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    let number = (digit1, opt(('.', digit1)), opt(exponent)).take().parse_to();
    number.verify(|number: &f64| number.is_finite()).map(Expression::number).parse_next(text)
}

fn name(text: &mut &str) -> ModalResult<Expression> {
    let name = take_while(1.., is_part).verify(|name: &str| begins_name(name));
    name.verify_map(|name| resolve(name).ok()).map(Expression::input).parse_next(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::accumulator::Undefined;

    /// The value where every count is the length of its name.
    fn value(text: &str) -> Result<f64, Undefined> {
        let length = |input: Input| Ok(f64::from(u8::try_from(input.column.len()).expect("short")));
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).value(length)
    }

    fn refused(text: &str) -> String {
        parse(text).expect_err(text)
    }

    #[test]
    fn products_bind_before_sums_and_both_go_from_left_to_right() {
        for (text, expected) in [
            ("tp", 2.0),
            ("tp + fp * fn - tn", 4.0),
            ("8 - tp - tn", 4.0),
            ("64 / tp / 2 * tn", 32.0),
            ("(tp + fp) * (fn - 2 * tn)", -8.0),
            ("-tp - -fp", 0.0),
            ("-(tp + 1) * tn", -6.0),
            ("\t1.5e1*\n tp", 30.0),
            ("2E-1 * errors", 1.2),
            ("labels.labelled/serving.inferences", 0.8),
            ("inferences", 10.0),
            ("((((tp))))", 2.0),
        ] {
            let value = value(text).expect(text);
            assert!((value - expected).abs() < 1e-12, "{text} = {value}");
        }
        assert_eq!(value("tp / (fp - tp)"), Err(Undefined::ZeroDenominator));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_could_stand_there() {
        for (text, expected) in [
            ("", "ends too early"),
            ("tp +", "ends too early"),
            ("(tp", "ends too early"),
            ("tp * ) fp", "at \" ) fp\""),
            ("(tp + ) / fp", "at \" ) / fp\""),
            ("tp fp", "at \"fp\""),
            ("tp)", "at \")\""),
            ("2 tp", "at \"tp\""),
            ("2tp", "at \"tp\""),
            ("tp ^ 2", "at \"^ 2\""),
            ("--tp", "at \"--tp\""),
            ("+tp", "at \"+tp\""),
            ("1e999 * tp", "at \"1e999 * tp\""),
            ("1. * tp", "at \". * tp\""),
            ("tp · fp", "at \"· fp\""),
            ("3 * 4", "names no count or sum"),
            ("n / 2", "write `quality_binary.n` or `quality_regression.n`"),
            ("infrences", "did you mean `inferences`"),
            ("labels.labeled", "did you mean `labels.labelled`"),
            ("sqrt(tp)", "has `sqrt`, which is no count or sum"),
            ("accuracy", "has `accuracy`, which is no count or sum"),
            ("TP", "did you mean `"),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
        let message = refused("x");
        for input in Input::all() {
            assert!(message.contains(input.column) && message.contains(input.table.name()));
        }
    }

    #[test]
    fn long_and_deep_texts_are_refused_before_they_are_parsed() {
        let deep = |levels: usize| format!("{}tp{}", "(".repeat(levels), ")".repeat(levels));
        assert_eq!(value(&deep(DEEPEST)), Ok(2.0));
        assert!(refused(&deep(DEEPEST + 1)).contains("33 deep"));
        assert!(refused(&"(".repeat(900)).contains("900 deep"));
        let long = |terms: usize| vec!["1"; terms].join("+") + "+tp";
        assert_eq!(value(&long(498)), Ok(500.0));
        assert!(refused(&long(600)).contains("at most 1000"));
        assert!(refused(&"-".repeat(1000)).contains("not understood"));
    }
}
