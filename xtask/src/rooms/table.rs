//! The table of rooms in ARCHITECTURE.md, between the lines `<!-- rooms -->` and `<!-- end of rooms -->`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

const BEGIN: &str = "<!-- rooms -->";
const END: &str = "<!-- end of rooms -->";

/// The allowed imports, by room. A room is a module path such as `protocol/wire`.
pub struct Table {
    rooms: BTreeMap<String, Row>,
}

struct Row {
    imports: Imports,
    refused_crates: Vec<String>,
}

enum Imports {
    Everything,
    Listed(Vec<String>),
}

/// Crates of this workspace that only rooms which list them may use.
const OWN_CRATES: &[&str] = &["gateway-common"];

impl Table {
    /// Reads the table out of the document's text.
    pub fn parse(document: &str) -> Result<Self> {
        let (_, rest) =
            document.split_once(BEGIN).with_context(|| format!("ARCHITECTURE.md has no line {BEGIN}"))?;
        let (text, _) = rest.split_once(END).with_context(|| format!("ARCHITECTURE.md has no line {END}"))?;
        let mut lines = text.lines().map(str::trim).filter(|line| line.starts_with('|'));
        let header = cells(lines.next().context("the table of rooms is empty")?);
        let column = |name: &str| {
            header
                .iter()
                .position(|cell| cell == name)
                .with_context(|| format!("the table has no column `{name}`"))
        };
        let (room, imports, refused) = (column("room")?, column("may import")?, column("must not use")?);

        let mut rooms = BTreeMap::new();
        for line in lines.filter(|line| !line.trim_matches(['|', '-', ':', ' ']).is_empty()) {
            let cells = cells(line);
            let cell = |index: usize| cells.get(index).map(String::as_str).unwrap_or_default();
            let name = names(cell(room)).pop().with_context(|| format!("no room is named in `{line}`"))?;
            let imports = match cell(imports) {
                "everything" => Imports::Everything,
                "nothing" => Imports::Listed(Vec::new()),
                listed => Imports::Listed(names(listed)),
            };
            let row = Row { imports, refused_crates: names(cell(refused)) };
            ensure!(rooms.insert(name.clone(), row).is_none(), "room `{name}` has two rows");
        }
        let table = Self { rooms };
        table.check_names()?;
        Ok(table)
    }

    fn check_names(&self) -> Result<()> {
        for (room, row) in &self.rooms {
            let Imports::Listed(listed) = &row.imports else { continue };
            for name in listed {
                if !self.rooms.contains_key(name) && !OWN_CRATES.contains(&name.as_str()) {
                    bail!("the row of `{room}` names `{name}`, which is no room");
                }
            }
        }
        Ok(())
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Rooms that have rooms inside: there each folder is one, with a row of its own.
    pub fn lacks_a_row(&self, module: &[String], is_folder: bool) -> bool {
        let [outer, _] = module else { return false };
        let divided = self.rooms.keys().any(|room| is_below(room, outer));
        is_folder && divided && !self.rooms.contains_key(&module.join("/"))
    }

    /// How many of the rooms are inside another.
    pub fn inner(&self) -> usize {
        self.rooms.keys().filter(|room| room.contains('/')).count()
    }

    /// The most specific room that a module belongs to.
    pub fn room_of(&self, module: &[String]) -> Option<&str> {
        (1..=module.len()).rev().find_map(|length| {
            let name = module.get(..length)?.join("/");
            self.rooms.get_key_value(&name).map(|(room, _)| room.as_str())
        })
    }

    /// What is wrong with `room` naming this path of the crate, if anything is.
    pub fn objection(&self, room: &str, target: &[String]) -> Option<String> {
        let row = self.rooms.get(room)?;
        let Imports::Listed(listed) = &row.imports else { return None };
        if target.is_empty() {
            return Some(format!("`{room}` must not import the crate as a whole"));
        }
        let Some(other) = self.room_of(target) else {
            return Some(format!("`crate::{}` leads to no room of the table", target.join("::")));
        };
        let allowed = other == room || listed.iter().any(|name| name == other) || is_below(room, other);
        (!allowed).then(|| format!("`{room}` must not import `{other}`"))
    }

    /// What is wrong with `room` naming that crate, if anything is.
    pub fn objection_to_crate(&self, room: &str, name: &str) -> Option<String> {
        let row = self.rooms.get(room)?;
        let named = |listed: &Vec<String>| listed.iter().any(|crate_| crate_.replace('-', "_") == name);
        let refused = named(&row.refused_crates);
        let own = OWN_CRATES.iter().any(|own| own.replace('-', "_") == name);
        let unlisted = own && matches!(&row.imports, Imports::Listed(listed) if !named(listed));
        (refused || unlisted).then(|| format!("`{room}` must not use the crate `{name}`"))
    }
}

/// A sub-room may use what its parent's own file says: the parent is where shared names are listed.
fn is_below(room: &str, parent: &str) -> bool {
    room.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The names in back quotes; what stands between them is for people.
pub fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_row_that_names_an_unknown_room_is_an_error() {
        let table = "<!-- rooms -->\n|room|may import|must not use|\n|---|---|---|\n|`a`|`b`||\n<!-- end of rooms -->";
        let error = Table::parse(table).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error, "the row of `a` names `b`, which is no room");
    }

    #[test]
    fn a_document_without_the_table_is_an_error() {
        assert!(Table::parse("# Architecture\n").is_err());
    }
}
