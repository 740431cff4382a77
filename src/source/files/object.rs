//! Flat columns to one nested JSON object.

use super::Columns;

/// The shape of the object: made once for each file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    entries: Vec<(Box<[u8]>, Node)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Node {
    Column(usize),
    Object(Shape),
}

impl Shape {
    /// The shape of columns, each with the index by which its value is asked for; `columns` parts their dotted names.
    /// `Err` names two that exclude each other.
    pub(super) fn new<'a>(
        used: impl IntoIterator<Item = (usize, &'a str)>,
        columns: &Columns,
    ) -> Result<Self, String> {
        let mut shape = Self::default();
        for (index, name) in used {
            shape.add(&columns.names(name), index).map_err(|()| {
                format!("column `{name}` stands twice, or beside columns that lie below it")
            })?;
        }
        Ok(shape)
    }

    fn add(&mut self, names: &[&str], index: usize) -> Result<(), ()> {
        let (name, rest) = names.split_first().expect("a column has a name");
        let key = key(name);
        let at = self.entries.iter().position(|(known, _)| *known == key);
        match (at.map(|at| &mut self.entries[at].1), rest) {
            (Some(Node::Object(below)), [_, ..]) => return below.add(rest, index),
            (Some(_), _) => return Err(()),
            (None, []) => self.entries.push((key, Node::Column(index))),
            (None, _) => {
                let mut below = Self::default();
                below.add(rest, index)?;
                self.entries.push((key, Node::Object(below)));
            }
        }
        Ok(())
    }

    /// Writes the object. `value` writes one column's value, or nothing where there is none.
    pub(super) fn write(&self, out: &mut Vec<u8>, value: &mut impl FnMut(usize, &mut Vec<u8>)) {
        out.push(b'{');
        let first = out.len();
        for (key, node) in &self.entries {
            let before = out.len();
            if before > first {
                out.push(b',');
            }
            out.extend_from_slice(key);
            let start = out.len();
            match node {
                Node::Column(index) => value(*index, out),
                Node::Object(below) => {
                    below.write(out, value);
                    if out.len() == start + 2 {
                        out.truncate(start);
                    }
                }
            }
            if out.len() == start {
                out.truncate(before);
            }
        }
        out.push(b'}');
    }
}

/// `"name":`
fn key(name: &str) -> Box<[u8]> {
    let mut key = Vec::new();
    text(&mut key, name);
    key.push(b':');
    key.into()
}

/// Writes a JSON string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes all");
}

/// Writes a number: nothing for NaN, which is how tables write a cell without a value, and for an infinity the greatest
/// double, which is beyond the range of every field and makes a feature "not finite". JSON has no infinity, and a
/// number that is no double breaks the whole record.
pub(super) fn number(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        serde_json::to_writer(out, &number).expect("a Vec takes all");
    } else if !number.is_nan() {
        serde_json::to_writer(out, &f64::MAX.copysign(number)).expect("a Vec takes all");
    }
}
