//! Laying the sources over each other, and remembering where each value came from.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULT_FILE};

/// What the configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// The environment: all variables; those that begin with `KVD_` and name a section count.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`, in order.
    pub set: Vec<String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// `--set`.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Set => f.write_str("--set"),
        }
    }
}

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Every `section.key`, its value, and where that came from, in the order of the default file.
    pub values: Vec<(String, Value, Origin)>,
}

impl Loaded {
    /// The effective configuration as a file; with `origins`, each value says where it came from.
    pub fn render(&self, origins: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for (path, value, origin) in &self.values {
            let (head, key) = path.split_once('.').unwrap_or(("", path));
            if head != section {
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{head}]\n"));
                section = head;
            }
            let line = format!("{key} = {value}");
            if origins {
                text.push_str(&format!("{line:<50} # {origin}\n"));
            } else {
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }
}

struct Layers {
    /// `section.key` to value and origin.
    values: BTreeMap<String, (Value, Origin)>,
    /// The order of the default file.
    order: Vec<String>,
}

/// Reads and layers all sources. Values are checked for their type only; see
/// `Settings::from_config` of the server.
///
/// # Errors
/// A source cannot be read, names a key that does not exist, or has a value of the wrong type.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::defaults();
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        // The file alone first: an error in it then comes with line, column and a caret.
        toml::from_str::<Config>(&text)
            .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        let table: Table = toml::from_str(&text)
            .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        layers.file(table, path);
    }
    for (name, text) in &sources.environment {
        if let Some((section, key)) =
            name.strip_prefix("KVD_").and_then(|rest| rest.split_once("__"))
        {
            let path = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
            layers.set(&path, text, Origin::Environment(name.clone()))?;
        }
    }
    for assignment in &sources.set {
        let (path, text) = assignment.split_once('=').ok_or_else(|| {
            ConfigError(format!("--set {assignment}: expected section.key=value"))
        })?;
        layers.set(path.trim(), text, Origin::Set)?;
    }
    layers.finish()
}

impl Layers {
    fn defaults() -> Layers {
        let table: Table = toml::from_str(DEFAULT_FILE).expect("the built-in defaults are tested");
        let mut layers = Layers { values: BTreeMap::new(), order: Vec::new() };
        for (section, keys) in table {
            for (key, value) in keys.as_table().into_iter().flatten() {
                let path = format!("{section}.{key}");
                layers.values.insert(path, (value.clone(), Origin::Default));
            }
        }
        layers.order = order_of_defaults();
        layers
    }

    /// Takes a file that is known to have only keys that exist.
    fn file(&mut self, table: Table, path: &std::path::Path) {
        for (section, keys) in table {
            for (key, value) in keys.as_table().into_iter().flatten() {
                let origin = Origin::File(path.to_owned());
                self.values.insert(format!("{section}.{key}"), (value.clone(), origin));
            }
        }
    }

    /// Takes one value as text, in the type of the default.
    fn set(&mut self, path: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let Some((old, _)) = self.values.get(path) else {
            return Err(ConfigError(format!("{origin}: there is no setting {path}")));
        };
        let wrong =
            |expected: &str| ConfigError(format!("{origin}: {path}={text:?}: expected {expected}"));
        let value = match old {
            Value::Integer(_) => {
                Value::Integer(text.trim().parse().map_err(|_| wrong("a whole number"))?)
            }
            Value::Float(_) => Value::Float(text.trim().parse().map_err(|_| wrong("a number"))?),
            Value::Boolean(_) => {
                Value::Boolean(text.trim().parse().map_err(|_| wrong("true or false"))?)
            }
            Value::Array(_) => list(text).ok_or_else(|| wrong("a list: a,b or [\"a\", \"b\"]"))?,
            Value::String(_) | Value::Datetime(_) | Value::Table(_) => {
                Value::String(text.to_owned())
            }
        };
        self.values.insert(path.to_owned(), (value, origin));
        Ok(())
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        let mut table = Table::new();
        for (path, (value, _)) in &self.values {
            let (section, key) = path.split_once('.').unwrap_or(("", path));
            let keys = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(keys) = keys {
                keys.insert(key.to_owned(), value.clone());
            }
        }
        let config: Config =
            serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
                let path = error.path().to_string();
                let key: String = path.split('[').next().unwrap_or(&path).to_owned();
                let found = self.values.get(&key);
                let origin = found.map_or(Origin::Default, |(_, origin)| origin.clone());
                ConfigError(format!("{origin}: {path}: {}", error.inner().to_string().trim()))
            })?;
        let take = |path: String| {
            let (value, origin) = self.values.remove(&path)?;
            Some((path, value, origin))
        };
        Ok(Loaded { config, values: self.order.into_iter().filter_map(take).collect() })
    }
}

fn list(text: &str) -> Option<Value> {
    #[derive(Deserialize)]
    struct Wrapped {
        list: Vec<String>,
    }
    let trimmed = text.trim();
    let items = if trimmed.starts_with('[') {
        toml::from_str::<Wrapped>(&format!("list = {trimmed}")).ok()?.list
    } else {
        trimmed.split(',').map(|item| item.trim().to_owned()).filter(|i| !i.is_empty()).collect()
    };
    Some(Value::Array(items.into_iter().map(Value::String).collect()))
}

/// The keys in the order a reader of the default file sees them.
fn order_of_defaults() -> Vec<String> {
    let mut section = "";
    let mut order = Vec::new();
    for line in DEFAULT_FILE.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            section = rest.split(']').next().unwrap_or_default();
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            order.push(format!("{section}.{key}"));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn environment(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn later_layers_win_and_each_value_knows_its_origin() {
        let file =
            file("[request]\ntimeout = \"2s\"\nmax_in_flight = 7\n[log]\nfilter = \"warn\"\n");
        let loaded = load(&Sources {
            file: Some(file.path().to_owned()),
            environment: environment("KVD_REQUEST__TIMEOUT", "3s"),
            set: vec!["log.filter=debug".to_owned()],
        })
        .unwrap();
        assert_eq!(loaded.config.request.timeout, Duration::from_secs(3));
        assert_eq!(loaded.config.request.max_in_flight, 7);
        assert_eq!(loaded.config.log.filter, "debug");
        let shown = loaded.render(true);
        for (key, origin) in [
            ("timeout = \"3s\"", "# environment variable KVD_REQUEST__TIMEOUT"),
            ("max_in_flight = 7", "# file "),
            ("filter = \"debug\"", "# --set"),
            ("partitions = 256", "# default"),
        ] {
            let line = shown.lines().find(|line| line.starts_with(key)).unwrap();
            assert!(line.contains(origin), "{line}");
        }
    }

    #[test]
    fn what_is_shown_is_a_file_that_loads_to_the_same() {
        let set = vec!["cluster.founders=a=h:1,b=h:2".to_owned(), "node.name=a".to_owned()];
        let loaded = load(&Sources { set, ..Sources::default() }).unwrap();
        let file = file(&loaded.render(true));
        let again = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        assert_eq!(load(&again).unwrap().config, loaded.config);
        assert_eq!(loaded.values.len(), Layers::defaults().values.len());
    }

    #[test]
    fn an_error_in_the_file_points_at_the_place() {
        for text in ["[request]\ntimeout = 5\n", "[request]\ntimeot = \"5s\"\n"] {
            let file = file(text);
            let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
            let error = load(&sources).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains('^'), "{error}");
        }
    }

    #[test]
    fn an_error_outside_the_file_names_its_origin() {
        for (name, value) in [
            ("KVD_REQUEST__TIMEOUT", "soon"),
            ("KVD_REQUEST__MAX_IN_FLIGHT", "many"),
            ("KVD_STORAGE__SYNC", "sometimes"),
            ("KVD_NO__SUCH", "1"),
        ] {
            let sources = Sources { environment: environment(name, value), ..Sources::default() };
            let error = load(&sources).unwrap_err().to_string();
            assert!(error.starts_with(&format!("environment variable {name}: ")), "{error}");
        }
        for set in ["request.timeout", "request.timeout=x", "no.such=1"] {
            let sources = Sources { set: vec![set.to_owned()], ..Sources::default() };
            assert!(load(&sources).unwrap_err().to_string().starts_with("--set"));
        }
    }

    #[test]
    fn other_variables_of_ours_are_no_settings() {
        let sources = Sources { environment: environment("KVD_CONFIG", "x"), ..Sources::default() };
        assert!(load(&sources).is_ok());
    }
}
