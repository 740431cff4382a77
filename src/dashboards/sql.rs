//! A chart's SQL and its placeholders: `{db}` is the database of the views, and each of `{time}`, `{job}`,
//! `{model}`, `{version}`, `{segment}` and `{grain}` a condition, in every tool's own words.

/// Who sends the SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Jinja, as Superset fills it in.
    Superset,
    /// The macros and variables of Grafana's ClickHouse data source.
    Grafana,
    /// Metabase's variables and optional clauses.
    Metabase,
    /// The query parameters of ClickHouse's `/dashboard`.
    ClickHouse,
}

/// What a viewer can choose beside the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The placeholder, which is also the column and the tool's variable.
    pub name: &'static str,
    /// For the viewer.
    pub title: &'static str,
    /// What holds until something is chosen; none: everything is shown, but of jobs the newest alone.
    pub default: Option<&'static str>,
}

/// Rows of two jobs over the same records would be added up, so one job is shown at a time.
const JOB: Filter = Filter { name: "job", title: "Job", default: None };

/// All of them, in the order in which they are shown.
pub const FILTERS: [Filter; 5] = [
    JOB,
    Filter { name: "model", title: "Model", default: None },
    Filter { name: "version", title: "Version", default: None },
    Filter { name: "segment", title: "Segment", default: Some("all") },
    Filter { name: "grain", title: "Window", default: Some("1h") },
];

impl Filter {
    /// What can be chosen: one column, in the order to show. But for jobs what rows of the chosen job have, where
    /// `of_job` is the condition that says which that is.
    pub fn values(self, database: &str, of_job: &str) -> String {
        let name = self.name;
        if self == JOB {
            let jobs = jobs(database);
            return format!(
                "SELECT job FROM ({jobs}) GROUP BY job ORDER BY max(last_window) DESC, job"
            );
        }
        let (rows, order) = self.offered(database);
        format!(
            "SELECT {name} FROM {database}.keys WHERE {of_job} AND {rows} GROUP BY {name} ORDER BY {order}"
        )
    }

    /// The same of all jobs, with the job: two columns, for tools that choose among the rows themselves.
    pub fn values_by_job(self, database: &str) -> String {
        let name = self.name;
        let (rows, _) = self.offered(database);
        format!("SELECT job, {name} FROM {database}.keys WHERE {rows} GROUP BY job, {name}")
    }

    /// Rows of `keys` that have all that can be chosen, and its order.
    fn offered(self, database: &str) -> (String, &'static str) {
        let keys = format!("{database}.keys");
        match self.name {
            // Each segment has rows of every grain: the longest windows are the fewest.
            "segment" => (
                format!(
                    "(job, grain) IN (SELECT job, argMax(grain, window_end - window_start) FROM {keys} \
                     WHERE segment = 'all' GROUP BY job)"
                ),
                "segment != 'all', segment",
            ),
            "grain" => ("segment = 'all'".to_owned(), "min(window_end - window_start)"),
            name => ("segment = 'all'".to_owned(), name),
        }
    }

    /// Whether it always holds one value: where it has no default, the first that is offered. `one_model` is the
    /// dashboard's.
    pub fn is_one(self, one_model: bool) -> bool {
        self == JOB || self.default.is_some() || (self.name == "model" && one_model)
    }

    fn condition(self, tool: Tool, database: &str, one_model: bool) -> String {
        if self == JOB {
            return job_condition(tool, database);
        }
        let Self { name, default, .. } = self;
        match (tool, default) {
            (Tool::Superset, None) => format!(
                "{{{{ '{name} IN ' ~ (filter_values('{name}')|where_in) if filter_values('{name}') else '1 = 1' }}}}"
            ),
            (Tool::Superset, Some(default)) => format!(
                "{{{{ '{name} IN ' ~ (filter_values('{name}')|where_in) if filter_values('{name}') else \"{name} = '{default}'\" }}}}"
            ),
            (Tool::Grafana, None) => {
                format!("$__conditionalAll({name} IN (${{{name}:sqlstring}}), ${name})")
            }
            (Tool::Grafana, Some(_)) => format!("{name} = ${{{name}:sqlstring}}"),
            // A default that moves is none that it knows: the first that is offered.
            (Tool::Metabase, None) if self.is_one(one_model) => format!(
                "{name} = coalesce([[{{{{{name}}}}}, ]](SELECT min({name}) FROM {database}.keys WHERE {} AND segment = 'all'))",
                job_condition(tool, database)
            ),
            (Tool::Metabase, None) => format!("1 = 1 [[AND {name} = {{{{{name}}}}}]]"),
            (Tool::Metabase, Some(_)) => format!("{name} = {{{{{name}}}}}"),
            (Tool::ClickHouse, None) => {
                format!("({{{name}:String}} = '' OR {name} = {{{name}:String}})")
            }
            (Tool::ClickHouse, Some(default)) => {
                format!("{name} = if({{{name}:String}} = '', '{default}', {{{name}:String}})")
            }
        }
    }
}

/// Every job with the start of its last window in milliseconds, as windows that are long have ends that are still to
/// come. A job whose records could not be used has accounts and no window.
pub(super) fn jobs(database: &str) -> String {
    format!(
        "SELECT job, toUnixTimestamp64Milli(max(window_start)) AS last_window FROM {database}.keys \
         WHERE segment = 'all' GROUP BY job UNION ALL SELECT job, toInt64(0) FROM {database}.stream_health"
    )
}

/// Of a variable that always has a value.
pub(super) const GRAFANA_JOB: &str = "job = ${job:sqlstring}";

/// Where no job is chosen, the first that is offered.
fn job_condition(tool: Tool, database: &str) -> String {
    let newest = format!("(SELECT argMin(job, (-last_window, job)) FROM ({}))", jobs(database));
    match tool {
        // The page chooses the first by itself, but whoever asks the API need not.
        Tool::Superset => format!(
            "{{{{ 'job IN ' ~ (filter_values('job')|where_in) if filter_values('job') else \"job = {newest}\" }}}}"
        ),
        Tool::Grafana => GRAFANA_JOB.to_owned(),
        Tool::Metabase => format!("job = coalesce([[{{{{job}}}}, ]]{newest})"),
        Tool::ClickHouse => {
            format!("job = if({{job:String}} = '', {newest}, {{job:String}})")
        }
    }
}

/// Windows that start in the chosen time.
fn time_condition(tool: Tool) -> &'static str {
    match tool {
        Tool::Superset => {
            "{{ \"window_start >= parseDateTime64BestEffort('\" ~ from_dttm ~ \"', 3, 'UTC')\" if from_dttm else '1 = 1' }} \
             AND {{ \"window_start < parseDateTime64BestEffort('\" ~ to_dttm ~ \"', 3, 'UTC')\" if to_dttm else '1 = 1' }}"
        }
        Tool::Grafana => "$__timeFilter_ms(window_start)",
        // A date has no default that moves, so what is not chosen is left to the second argument: the last seven days.
        Tool::Metabase => {
            "window_start >= coalesce([[toDateTime64({{from}}, 3, 'UTC'), ]]\
             coalesce([[toDateTime64({{to}}, 3, 'UTC'), ]]now64(3, 'UTC')) - toIntervalDay(7)) \
             [[AND window_start < toDateTime64({{to}}, 3, 'UTC')]]"
        }
        Tool::ClickHouse => {
            "window_start >= if({from:String} = '', now64(3, 'UTC') - toIntervalSecond({seconds:UInt32}), \
             parseDateTime64BestEffortOrZero({from:String}, 3, 'UTC')) \
             AND window_start < if({to:String} = '', now64(3, 'UTC'), parseDateTime64BestEffortOrZero({to:String}, 3, 'UTC'))"
        }
    }
}

/// The SQL as one tool has it.
pub fn expand(sql: &str, tool: Tool, database: &str) -> String {
    filled(sql, tool, database, false)
}

/// The same on a dashboard that opens with one model, of tools that choose none by themselves: the SQL does.
pub(super) fn expand_of_one(sql: &str, tool: Tool, database: &str) -> String {
    filled(sql, tool, database, true)
}

fn filled(sql: &str, tool: Tool, database: &str, one_model: bool) -> String {
    let mut expanded = sql.trim_end().replace("{db}", database);
    // The tools' own words hold braces, so what was filled in is not looked at again.
    for (mark, name) in MARKS.iter().zip(PLACEHOLDERS) {
        expanded = expanded.replace(&format!("{{{name}}}"), mark);
    }
    expanded = expanded.replace(MARKS[0], time_condition(tool));
    for (mark, filter) in MARKS[1..].iter().zip(FILTERS) {
        expanded = expanded.replace(mark, &filter.condition(tool, database, one_model));
    }
    expanded
}

const PLACEHOLDERS: [&str; 6] = ["time", "job", "model", "version", "segment", "grain"];
const MARKS: [&str; 6] = ["\u{1}0", "\u{1}1", "\u{1}2", "\u{1}3", "\u{1}4", "\u{1}5"];

/// Whether all placeholders are known, and nothing else would be one for a tool.
pub fn check(sql: &str) -> Result<(), String> {
    let mut rest = sql;
    while let Some((_, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
        if name != "db" && !PLACEHOLDERS.contains(&name) {
            let known = PLACEHOLDERS.join("}, {");
            return Err(format!("{{{name}}} is no placeholder; there are {{db}}, {{{known}}}"));
        }
        rest = after;
    }
    match ["[[", "]]", "$", "{%", ";", "\u{1}"].iter().find(|taken| sql.contains(**taken)) {
        Some(taken) => Err(format!("{taken:?} in the SQL means something to one of the tools")),
        None if !sql.contains("{db}.") => {
            Err("the SQL reads no view: write FROM {db}.serving".to_owned())
        }
        None => Ok(()),
    }
}
