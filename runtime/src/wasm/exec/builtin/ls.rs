//! `ls [-1aAdl] [PATH…]`.

use std::io::{self, Write};
use std::time::SystemTime;

use jiff::Timestamp;

use super::{Info, Kind, Session, Tree, mode_text, reason};

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let (options, mut paths) = match session.options("1aAdl") {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if paths.is_empty() {
        paths.push(".".to_owned());
    }
    let list = List { long: options.contains('l'), hidden: options.contains(['a', 'A']), dots: options.contains('a') };
    let tree = session.tree()?;
    let (mut code, several) = (0, paths.len() > 1);
    for (number, path) in paths.iter().enumerate() {
        let parts = session.absolute(path);
        let found = tree.metadata(&parts).or_else(|_| tree.link_metadata(&parts));
        let shown = match found {
            Err(error) => Err(error),
            Ok(info) if options.contains('d') || !info.is_dir() => list.entry(session, &tree, path, &parts, &info),
            Ok(_) => {
                if several {
                    let gap = if number > 0 { "\n" } else { "" };
                    writeln!(session.stdout, "{gap}{path}:")?;
                }
                list.directory(session, &tree, &parts)
            }
        };
        if let Err(error) = shown {
            session.complain(&format!("cannot access '{path}': {}", reason(&error)));
            code = 2;
        }
    }
    Ok(code)
}

/// What is shown of each entry.
struct List {
    long: bool,
    hidden: bool,
    dots: bool,
}

impl List {
    fn directory(&self, session: &mut Session<'_>, tree: &Tree, parts: &[String]) -> io::Result<()> {
        if self.dots {
            let parent = &parts[..parts.len().saturating_sub(1)];
            for (name, of) in [(".", parts), ("..", parent)] {
                let info = tree.metadata(of)?;
                self.entry(session, tree, name, of, &info)?;
            }
        }
        for (name, info) in tree.entries(parts)? {
            if self.hidden || !name.starts_with('.') {
                self.entry(session, tree, &name, &[parts, std::slice::from_ref(&name)].concat(), &info)?;
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        session: &mut Session<'_>,
        tree: &Tree,
        name: &str,
        parts: &[String],
        info: &Info,
    ) -> io::Result<()> {
        if !self.long {
            return writeln!(session.stdout, "{name}");
        }
        let target = match info.kind {
            Kind::Link => format!(" -> {}", tree.read_link(parts)?.display()),
            _ => String::new(),
        };
        let (mode, time) = (mode_text(info), time_text(info.modified));
        let Info { links, owner, group, size, .. } = info;
        writeln!(session.stdout, "{mode} {links:>3} {owner:<5} {group:<5} {size:>9} {time} {name}{target}")
    }
}

/// `2024-01-31 12:00`, in UTC.
fn time_text(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
}
