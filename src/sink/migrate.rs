//! Creates the tables and views, brings older ones forward, and checks that they are what this program writes.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::SinkError;
use super::connection::{Connection, Parameter, REBUILD_METRICS, REBUILD_ROWS};
use super::ddl::{create_database, literal};
use super::rowbinary::Rows;
use super::tables::{TABLES_COMMENT, TableColumn, TableSpec, tables};
use super::views::{VIEWS_COMMENT, views};

/// The version of the tables that this program writes.
pub const VERSION: u32 = 2;

/// What `init` did: one line for each statement, none when all was there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// In words, in the order done.
    pub done: Vec<String>,
}

/// Statements that bring the tables from one version to the next, for what can't be told from their columns (a new
/// sorting key, a column with another meaning). Missing tables, columns, comments and views need no step.
struct Step {
    /// The version that it leads to.
    to: u32,
    /// The statements, each repeatable; `{db}` stands for the database of the tables.
    statements: &'static [&'static str],
}

/// By ascending `to`. Version 1 is the first: nothing comes before it. Since version 2 rows that read no labels count
/// inferences alone in `row_version`: they win over older ones, and not the other way round.
const STEPS: &[Step] = &[Step { to: 1, statements: &[] }, Step { to: 2, statements: &[] }];

/// What was put in place last.
struct Applied {
    version: u32,
    views: String,
}

/// Columns of one table as the server has them.
type Stored = BTreeMap<String, (String, String)>;

/// Brings databases, tables and views to this version. Does nothing where all is there.
pub(super) async fn init(connection: &Connection) -> Result<Migrated, SinkError> {
    connection.check_name()?;
    let mut done = Migrated::default();
    create_databases(connection, &mut done).await?;
    let stored = stored(connection).await?;
    let applied = applied(connection, &stored).await?;
    let from = applied.as_ref().map_or(0, |applied| applied.version);
    if from > VERSION {
        return Err(other_version(connection, from));
    }
    for spec in tables() {
        bring_forward(connection, &spec, stored.get(spec.name), &mut done).await?;
    }
    if applied.is_some() {
        for step in STEPS.iter().filter(|step| step.to > from) {
            for statement in step.statements {
                let statement = statement.replace("{db}", &connection.databases.tables);
                run(connection, &statement, format!("step to version {}", step.to), &mut done)
                    .await?;
            }
        }
    }
    let digest = create_views(connection, applied.as_ref(), &mut done).await?;
    if applied.is_none_or(|applied| applied.version != VERSION || applied.views != digest) {
        record(connection, &digest).await?;
    }
    Ok(done)
}

async fn run(
    connection: &Connection,
    sql: &str,
    what: String,
    done: &mut Migrated,
) -> Result<(), SinkError> {
    connection.execute(sql).await?;
    done.done.push(what);
    Ok(())
}

/// Creates what is missing only, so that a user without the right to create databases can run it.
async fn create_databases(connection: &Connection, done: &mut Migrated) -> Result<(), SinkError> {
    let names = &connection.databases;
    for (name, comment) in [(&names.tables, TABLES_COMMENT), (&names.views, VIEWS_COMMENT)] {
        let sql = "SELECT name FROM system.databases WHERE name = {name:String}";
        let found = connection.fetch(sql, &[("name", Parameter::Text(name.clone()))]).await?;
        if Rows::new(found, "system.databases", &[("name", "String")])?.is_empty() {
            let sql = create_database(name, comment, &connection.settings.engine);
            run(connection, &sql, format!("created database {name}"), done).await?;
        }
    }
    Ok(())
}

/// Columns of all our tables, by table.
async fn stored(connection: &Connection) -> Result<BTreeMap<String, Stored>, SinkError> {
    let sql =
        "SELECT table, name, type, comment FROM system.columns WHERE database = {database:String}";
    let database = Parameter::Text(connection.databases.tables.clone());
    let body = connection.fetch(sql, &[("database", database)]).await?;
    let columns =
        [("table", "String"), ("name", "String"), ("type", "String"), ("comment", "String")];
    let mut rows = Rows::new(body, "system.columns", &columns)?;
    let mut found: BTreeMap<String, Stored> = BTreeMap::new();
    while !rows.is_empty() {
        let [table, name, data_type, comment] =
            [rows.text()?, rows.text()?, rows.text()?, rows.text()?].map(|text| text.to_string());
        found.entry(table).or_default().insert(name, (data_type, comment));
    }
    Ok(found)
}

async fn applied(
    connection: &Connection,
    stored: &BTreeMap<String, Stored>,
) -> Result<Option<Applied>, SinkError> {
    if !stored.contains_key("migrations") {
        return Ok(None);
    }
    let sql = format!(
        "SELECT version, views FROM {} ORDER BY version DESC, applied DESC LIMIT 1",
        connection.table("migrations")
    );
    let body = connection.fetch(&sql, &[]).await?;
    let mut rows =
        Rows::new(body, "table migrations", &[("version", "UInt32"), ("views", "String")])?;
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(Applied { version: rows.u32()?, views: rows.text()?.to_string() }))
}

/// Creates a table, or adds the columns and comments that it lacks. Columns that later versions leave empty may be NULL.
async fn bring_forward(
    connection: &Connection,
    spec: &TableSpec,
    stored: Option<&Stored>,
    done: &mut Migrated,
) -> Result<(), SinkError> {
    let (databases, engine) = (&connection.databases, &connection.settings.engine);
    let Some(stored) = stored else {
        let sql = spec.create(databases, engine);
        return run(connection, &sql, format!("created table {}", spec.name), done).await;
    };
    for column in &spec.columns {
        match stored.get(&column.name) {
            None if spec.key.contains(&column.name.as_str()) => {
                return Err(missing(connection, spec, column));
            }
            None => {
                let sql = spec.add_column(column, databases, engine);
                let what = format!("added column {}.{}", spec.name, column.name);
                run(connection, &sql, what, done).await?;
            }
            Some((data_type, _)) if may_be_null(column, data_type) => {
                let sql = spec.modify_column(column, databases, engine);
                let what = format!("column {}.{} may be NULL", spec.name, column.name);
                run(connection, &sql, what, done).await?;
            }
            Some((data_type, _)) if *data_type != column.data_type => {
                return Err(other_type(connection, spec, column, data_type));
            }
            Some((_, comment)) if *comment != column.comment => {
                let sql = spec.comment_column(column, databases, engine);
                let what = format!("comment of {}.{}", spec.name, column.name);
                run(connection, &sql, what, done).await?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Replaces all views where any is missing or other than this version's; the digest of this version's.
async fn create_views(
    connection: &Connection,
    applied: Option<&Applied>,
    done: &mut Migrated,
) -> Result<String, SinkError> {
    let statements: Vec<_> = views(&connection.databases)
        .into_iter()
        .map(|view| {
            (
                view.create(&connection.settings.engine),
                format!("view {}.{}", view.database, view.name),
            )
        })
        .collect();
    let all: String = statements.iter().map(|(sql, _)| sql.as_str()).collect();
    let digest = format!("{:016x}", xxh3_64(all.as_bytes()));
    let is_current = applied.is_some_and(|applied| applied.views == digest);
    if !is_current || stored_views(connection).await? != statements.len() {
        for (sql, what) in &statements {
            run(connection, sql, what.clone(), done).await?;
        }
    }
    Ok(digest)
}

/// How many of our views there are.
async fn stored_views(connection: &Connection) -> Result<usize, SinkError> {
    let sql = "SELECT database, name FROM system.tables \
               WHERE engine = 'View' AND has({databases:Array(String)}, database)";
    let names = &connection.databases;
    let databases = Parameter::Texts(vec![names.tables.clone(), names.views.clone()]);
    let body = connection.fetch(sql, &[("databases", databases)]).await?;
    let mut rows = Rows::new(body, "system.tables", &[("database", "String"), ("name", "String")])?;
    let expected = views(names);
    let mut found = 0;
    while !rows.is_empty() {
        let (database, name) = (rows.text()?, rows.text()?);
        found += usize::from(expected.iter().any(|v| *v.database == *database && *v.name == *name));
    }
    Ok(found)
}

async fn record(connection: &Connection, digest: &str) -> Result<(), SinkError> {
    let values = format!(
        "(version, views, program) SELECT {VERSION}, {}, {}",
        literal(digest),
        literal(env!("CARGO_PKG_VERSION"))
    );
    connection.insert_values("migrations", &values, &[], &[("insert_deduplicate", "0")]).await
}

/// Compares the tables with what this program writes and reads, and sees that they hold what marks say.
pub(super) async fn check(connection: &Connection) -> Result<(), SinkError> {
    check_but_rows(connection).await?;
    check_rows(connection).await
}

/// The same of a job whose marks may count records of which none is in a row.
pub(super) async fn check_but_rows(connection: &Connection) -> Result<(), SinkError> {
    check_tables(connection).await?;
    connection.remember_identities().await
}

/// The same of the tables alone. Columns that others added are theirs.
pub(super) async fn check_tables(connection: &Connection) -> Result<(), SinkError> {
    connection.check_name()?;
    let stored = stored(connection).await?;
    for spec in tables() {
        let Some(columns) = stored.get(spec.name) else {
            let remedy = if stored.is_empty() {
                "Run `tidegauge init`"
            } else {
                // Marks say that its rows were written, so nobody writes them again.
                "After an upgrade run `tidegauge init`. If it was there before, restore it, or run `tidegauge init` and \
                 start under another job name: the rows that it held do not come back by themselves"
            };
            let table = connection.table(spec.name);
            return Err(SinkError::Schema(format!("table {table} is missing. {remedy}")));
        };
        for column in &spec.columns {
            match columns.get(&column.name) {
                None => return Err(missing(connection, &spec, column)),
                Some((data_type, _)) if *data_type != column.data_type => {
                    return Err(other_type(connection, &spec, column, data_type));
                }
                Some(_) => {}
            }
        }
    }
    // Tables that were made from printed statements have no version.
    match applied(connection, &stored).await? {
        Some(applied) if applied.version != VERSION => {
            Err(other_version(connection, applied.version))
        }
        _ => check_engines(connection).await,
    }
}

/// Rows of two versions of the program do not go by the same rules.
fn other_version(connection: &Connection, found: u32) -> SinkError {
    let (age, remedy) = if found > VERSION {
        ("a newer", "Use that version")
    } else {
        ("an older", "Stop the older instances and run `tidegauge init`")
    };
    SinkError::Schema(format!(
        "database {} was set up by {age} version of tidegauge (tables {found}, here {VERSION}). {remedy}",
        connection.databases.tables
    ))
}

/// That rows are there where marks count records: those of sealed windows would never be written again.
async fn check_rows(connection: &Connection) -> Result<(), SinkError> {
    let of = |table: &str| connection.table(table);
    let any = |table: &str, more: &str| {
        let of = of(table);
        format!(
            "SELECT count() AS found FROM (SELECT 1 FROM {of} WHERE job = {{job:String}}{more} LIMIT 1)"
        )
    };
    let sql = format!(
        "SELECT s.found AS states, m.found AS metrics FROM ({}) AS s CROSS JOIN ({}) AS m CROSS JOIN ({}) AS k \
         WHERE k.found > 0",
        any("window_state", ""),
        any("serving", ""),
        any("marks", " AND arrayExists(t -> t.2 > 0, inference_tally)"),
    );
    let job = Parameter::Text(connection.settings.job.clone());
    let body = connection.fetch(&sql, &[("job", job)]).await?;
    let mut rows = Rows::new(body, "the tables", &[("states", "UInt64"), ("metrics", "UInt64")])?;
    while !rows.is_empty() {
        for table in ["window_state", "serving"] {
            if rows.u64()? == 0 {
                let (name, job) = (of(table), &connection.settings.job);
                let remedy = if table == "serving" { REBUILD_METRICS } else { REBUILD_ROWS };
                let said = "its marks count records";
                return Err(SinkError::Schema(format!(
                    "table {name} has no rows of job '{job}', but {said}. {remedy}"
                )));
            }
        }
    }
    Ok(())
}

/// That equal rows replace each other: without the engine and the key, a repeated insert would count twice.
async fn check_engines(connection: &Connection) -> Result<(), SinkError> {
    let sql = "SELECT name, engine_full, sorting_key FROM system.tables WHERE database = {database:String}";
    let database = Parameter::Text(connection.databases.tables.clone());
    let body = connection.fetch(sql, &[("database", database)]).await?;
    let columns = [("name", "String"), ("engine_full", "String"), ("sorting_key", "String")];
    let mut rows = Rows::new(body, "system.tables", &columns)?;
    let specs = tables();
    while !rows.is_empty() {
        let (name, engine, key) = (rows.text()?, rows.text()?, rows.text()?);
        let Some(spec) = specs.iter().find(|spec| *spec.name == *name) else { continue };
        // Up to its parameters: the path of a replicated table is the operator's.
        let (family, rest) = engine.split_once('(').unwrap_or((&engine, ""));
        let parameters = rest.split_once(')').map_or("", |(parameters, _)| parameters);
        let replaces = spec.version.is_none_or(|version| {
            family.trim().ends_with("ReplacingMergeTree") && parameters.ends_with(version)
        });
        let expected = spec.key.join(", ");
        if !replaces || *key != *expected {
            return Err(SinkError::Schema(format!(
                "table {} has another engine or sorting key than ({expected}). {REBUILD}",
                connection.table(spec.name)
            )));
        }
    }
    Ok(())
}

/// Whether a column is only to take NULL beside what it has.
fn may_be_null(column: &TableColumn, found: &str) -> bool {
    column.data_type == format!("Nullable({found})")
}

/// What helps where a table can't be altered.
const REBUILD: &str = "Alter it back, or name another `clickhouse.database`; or stop every instance, drop the table and \
                       the tables marks and seals, without which all rows follow from the topics again. Then run \
                       `tidegauge init`";

fn missing(connection: &Connection, spec: &TableSpec, column: &TableColumn) -> SinkError {
    SinkError::Schema(format!(
        "table {} has no column {}. Run `tidegauge init`",
        connection.table(spec.name),
        column.name
    ))
}

fn other_type(
    connection: &Connection,
    spec: &TableSpec,
    column: &TableColumn,
    found: &str,
) -> SinkError {
    let remedy = if may_be_null(column, found) { "Run `tidegauge init`" } else { REBUILD };
    SinkError::Schema(format!(
        "column {} of table {} is {found} and should be {}. {remedy}",
        column.name,
        connection.table(spec.name),
        column.data_type
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_one_by_one_to_this_version() {
        let leads: Vec<_> = STEPS.iter().map(|step| step.to).collect();
        assert_eq!(leads, (1..=VERSION).collect::<Vec<_>>());
        assert!(STEPS.iter().flat_map(|step| step.statements).all(|sql| sql.contains("{db}")));
    }
}
