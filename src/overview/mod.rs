//! Web pages over the metric rows: all models, one model, one feature. They only read, need no script and ask for
//! nothing from outside.
#![warn(missing_docs)]

mod address;
mod access;
mod page;
mod lines;
mod models;
mod model;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::html;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::engine::metrics::MetricTable;
use crate::engine::state::ALL;
use crate::report::{FEATURE, References, Row, left_out};
use crate::sink::SinkError;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::rows::{self, RowFilter};
use crate::sink::summary::Grain;
use access::Access;
use address::View;
use page::{Choices, NO_CHOICE};

/// Rows of one table that a page reads at most, the newest: more than the categories of one window, while its features
/// are within the default cap on them.
const MOST_ROWS: u32 = 20_000;
/// Seconds between two loads of a page that is live, or that says that the database is away.
const REFRESH: &str = "10";
/// Characters of a token: fewer can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
pub enum OverviewError {
    /// The address can't be listened on.
    #[error("can't listen on {address} for the overview: {reason}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// Others would see the pages, and nothing keeps them out.
    #[error("the overview at {address} would be open to others: {reason}")]
    Open {
        /// Where.
        address: SocketAddr,
        /// What is wrong with the token.
        reason: &'static str,
    },
}

impl OverviewError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "overview_bind",
            Self::Open { .. } => "overview_open",
        }
    }
}

/// What the pages show, and to whom.
pub struct OverviewSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What opens the pages; none only on an address of the machine itself.
    pub token: Option<String>,
    /// The rows.
    pub clickhouse: ClickHouse,
    /// Whose rows, in words.
    pub about: String,
    /// What the rows were compared with.
    pub references: References,
    /// The wall clock: milliseconds since 1970-01-01 UTC.
    pub clock: fn() -> i64,
}

/// The pages, bound but not yet served.
#[derive(Debug)]
pub struct Overview {
    listener: TcpListener,
    address: SocketAddr,
    app: Router,
}

struct App {
    clickhouse: ClickHouse,
    about: String,
    references: References,
    clock: fn() -> i64,
    access: Access,
}

impl Overview {
    /// Listens. An address that others can reach is refused without a token.
    pub async fn bind(settings: OverviewSettings) -> Result<Self, OverviewError> {
        let address = settings.listen;
        let open = |reason| Err(OverviewError::Open { address, reason });
        match settings.token.as_deref() {
            None if !address.ip().is_loopback() => return open("there is no token"),
            Some(token) if token.chars().count() < SHORTEST_TOKEN => {
                return open("the token is too short");
            }
            _ => {}
        }
        let bind = |reason| OverviewError::Bind { address, reason };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let access = Access::new(settings.token.as_deref());
        let OverviewSettings { clickhouse, about, references, clock, .. } = settings;
        let app = Arc::new(App { clickhouse, about, references, clock, access });
        Ok(Self { listener, address, app: router(app) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; pages that are being made are finished.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) {
        let served = axum::serve(self.listener, self.app).with_graceful_shutdown(stop).await;
        if let Err(error) = served {
            tracing::error!(%error, "the overview ended");
        }
    }
}

fn router(app: Arc<App>) -> Router {
    let pages = Router::new()
        .route("/", get(all_models))
        .route("/model", get(one_model))
        .route("/feature", get(one_feature))
        .fallback(async || said(StatusCode::NOT_FOUND, "No such page", "The overview is at /."))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/style.css",
            get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::style())),
        )
        .merge(pages)
        .layer(middleware::map_response(guarded))
        .with_state(app)
}

/// What every answer carries: nothing from outside, no script, no frame, nothing kept.
async fn guarded(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; \
                          frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets in who has the token; one in the address becomes a cookie, and leaves the address.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let given = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    if let Some(cookie) = given.and_then(|(_, token)| app.access.cookie_for(&token)) {
        let rest = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "token");
        let rest = form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
        let mut place = request.uri().path().to_owned();
        if !rest.is_empty() {
            place.extend(["?", &rest]);
        }
        // A path that begins with two slashes would lead to another host.
        let place = format!("/{}", place.trim_start_matches('/'));
        let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, place)];
        return (StatusCode::SEE_OTHER, headers).into_response();
    }
    if app.access.admits(request.headers()) {
        return next.run(request).await;
    }
    if app.access.has_token() {
        let how = "Open the address with ?token=… once, or send it as a Bearer token.";
        let page = said(StatusCode::UNAUTHORIZED, "A token is needed", how);
        return ([(header::WWW_AUTHENTICATE, "Bearer")], page).into_response();
    }
    let how = "Without a token the overview answers only to localhost. Start it with a token to use another name.";
    said(StatusCode::FORBIDDEN, "Not under this name", how)
}

fn said(status: StatusCode, title: &str, text: &str) -> Response {
    let body = html! { p.notice { (text) } };
    answer(status, page::page(title, &[], "", &body))
}

fn answer(status: StatusCode, page: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A page, or why there is none. While the database is away the page looks again by itself.
fn shown(view: &View, page: Result<String, SinkError>) -> Response {
    let refresh = (HeaderName::from_static("refresh"), REFRESH);
    match page {
        Ok(page) if view.live => ([refresh], answer(StatusCode::OK, page)).into_response(),
        Ok(page) => answer(StatusCode::OK, page),
        Err(error) => {
            tracing::warn!(%error, "a page could not be made");
            let body = html! {
                div.notice role="alert" {
                    p { (error) }
                    p { "This page looks again every " (REFRESH) " seconds." }
                }
            };
            let page = page::page("The rows can't be read", &[], "", &body);
            ([refresh], answer(StatusCode::SERVICE_UNAVAILABLE, page)).into_response()
        }
    }
}

/// The view of an address that says all of what the page needs, or what is wrong with it.
fn view(uri: &Uri, needs: &[&str]) -> Result<View, String> {
    let query = uri.query().unwrap_or_default();
    let has = |name: &str| form_urlencoded::parse(query.as_bytes()).any(|(given, _)| given == name);
    match needs.iter().find(|name| !has(name)) {
        Some(name) => Err(format!("it does not say which {name}")),
        None => View::parse(query),
    }
}

fn unreadable(text: &str) -> Response {
    said(StatusCode::BAD_REQUEST, "The address can't be read", text)
}

async fn all_models(State(app): State<Arc<App>>, uri: Uri) -> Response {
    match view(&uri, &[]) {
        Ok(view) => shown(&view, app.all_models(&view).await),
        Err(text) => unreadable(&text),
    }
}

async fn one_model(State(app): State<Arc<App>>, uri: Uri) -> Response {
    match view(&uri, &["model"]) {
        Ok(view) => shown(&view, app.one_model(&view).await),
        Err(text) => unreadable(&text),
    }
}

async fn one_feature(State(app): State<Arc<App>>, uri: Uri) -> Response {
    match view(&uri, &["model", "feature"]) {
        Ok(view) => shown(&view, app.one_feature(&view).await),
        Err(text) => unreadable(&text),
    }
}

impl App {
    /// The grains that there are, and the one to show: the chosen one, else the finest with few enough windows.
    async fn grains(&self, view: &View, filter: &RowFilter) -> Result<Grains, SinkError> {
        let grains = self.clickhouse.grains(filter).await?;
        let fitting = Grain::of_charts(&grains).map(|grain| grain.name.clone());
        let shown =
            if view.grain.is_empty() { fitting.unwrap_or_default() } else { view.grain.clone() };
        let of_shown = grains.iter().find(|grain| grain.name == shown);
        let window_ms = of_shown.map_or(0, |grain| grain.window_ms);
        let names = grains.into_iter().map(|grain| grain.name).collect();
        Ok(Grains { names, shown, window_ms })
    }

    /// The other jobs that have rows, in words: asked for only where there are none.
    async fn other_jobs(&self, is_empty: bool) -> Result<String, SinkError> {
        if is_empty { Ok(self.clickhouse.jobs().await?.named()) } else { Ok(String::new()) }
    }

    async fn all_models(self: &Arc<Self>, view: &View) -> Result<String, SinkError> {
        let now = (self.clock)();
        let mut filter = view.models(now, MOST_ROWS);
        let grains = self.grains(view, &filter).await?;
        filter.grain = Some(grains.shown.clone());
        let models = self.clickhouse.models(&filter).await?;
        let jobs = self.other_jobs(models.is_empty()).await?;
        let (app, view) = (Arc::clone(self), view.clone());
        let page = made(move || {
            let choices = Choices { jobs: &jobs, ..grains.choices() };
            models::render(&view, choices, models, &app.about, now)
        });
        Ok(page.await)
    }

    async fn one_model(self: &Arc<Self>, view: &View) -> Result<String, SinkError> {
        let mut filter = view.one_model((self.clock)(), MOST_ROWS);
        let grains = self.grains(view, &filter).await?;
        filter.grain = Some(grains.shown.clone());
        // At once: most of the time of each is the server's.
        let mut reads = JoinSet::new();
        for (place, read) in reads_of_model(&filter, &view.segment).into_iter().enumerate() {
            let app = Arc::clone(self);
            reads.spawn(async move {
                let rows = app.clickhouse.metric_rows(read.table, &read.filter).await;
                (place, read, rows)
            });
        }
        let mut read = reads.join_all().await;
        read.sort_by_key(|&(place, ..)| place);
        let mut found = Found::default();
        for (_, read, rows) in read {
            found.add(&read, rows?, &view.segment);
        }
        self.page_of(view, grains, found, model::render).await
    }

    async fn one_feature(self: &Arc<Self>, view: &View) -> Result<String, SinkError> {
        let filter = view.one_model((self.clock)(), MOST_ROWS);
        let grains = self.grains(view, &filter).await?;
        let filter = RowFilter { grain: Some(grains.shown.clone()), ..filter };
        let mut found = Found::default();
        for read in reads_of_feature(&filter, &view.feature, view.kind()) {
            let rows = self.clickhouse.metric_rows(read.table, &read.filter).await?;
            found.add(&read, rows, &view.segment);
        }
        self.page_of(view, grains, found, model::render_feature).await
    }

    /// The page that `render` makes of what was found.
    async fn page_of(
        self: &Arc<Self>,
        view: &View,
        grains: Grains,
        found: Found,
        render: fn(&View, Choices<'_>, Vec<Row>, &str, &References) -> String,
    ) -> Result<String, SinkError> {
        let jobs = self.other_jobs(found.rows.is_empty()).await?;
        let left_out = left_out(&found.full, MOST_ROWS);
        let (app, view) = (Arc::clone(self), view.clone());
        let page = made(move || {
            let choices = Choices { jobs: &jobs, left_out: &left_out, ..grains.choices() };
            render(&view, choices, found.rows, &app.about, &app.references)
        });
        Ok(page.await)
    }
}

/// The grains that there are, and the one that is shown.
struct Grains {
    names: Vec<String>,
    shown: String,
    /// Length of its windows; 0 where there are none.
    window_ms: i64,
}

impl Grains {
    fn choices(&self) -> Choices<'_> {
        let (grains, grain, window_ms) = (&self.names[..], &*self.shown, self.window_ms);
        Choices { grains, grain, window_ms, ..NO_CHOICE }
    }
}

/// Makes a page beside the tasks that answer: of many rows it takes a while.
async fn made(page: impl FnOnce() -> String + Send + 'static) -> String {
    tokio::task::spawn_blocking(page).await.expect("a page can be made of any rows")
}

/// Rows of one table that a page is made of.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    table: MetricTable,
    filter: RowFilter,
    /// Whether it is of all segments, beside what is read of the chosen one.
    of_all_segments: bool,
}

/// What the page of one model reads: every window of the chosen segment, where they are drawn, and of the others what
/// the table of segments and the choice of one are made of.
fn reads_of_model(chosen: &RowFilter, segment: &str) -> Vec<Read> {
    let mut reads = Vec::new();
    for table in MetricTable::ALL {
        let mut filter = chosen.clone();
        match table {
            // No section shows them.
            MetricTable::QualityThreshold
            | MetricTable::QualityClasses
            | MetricTable::Confusion => continue,
            MetricTable::CalibrationBins | MetricTable::DataQuality | MetricTable::Categories => {
                filter.only_newest = true;
            }
            MetricTable::Drift => filter.exact.push(rows::of_main_method()),
            _ => {}
        }
        reads.push(Read { table, filter, of_all_segments: false });
    }
    let mut others = chosen.clone();
    others.exact.retain(|(column, _)| *column != "segment");
    // A segment can be chosen that the newest window has not.
    reads.push(Read { table: MetricTable::Serving, filter: others.clone(), of_all_segments: true });
    if segment == ALL {
        others.only_newest = true;
        // The table of segments is of the window of the labels that it shows.
        others.judged_by = Some(MetricTable::Labels);
        let shown = [
            MetricTable::Labels,
            MetricTable::QualityBinary,
            MetricTable::QualityMulticlass,
            MetricTable::QualityRegression,
        ];
        let of = |table| Read { table, filter: others.clone(), of_all_segments: true };
        reads.extend(shown.map(of));
    }
    reads
}

/// What the page of one feature reads; of its categories only the newest window is drawn.
fn reads_of_feature(chosen: &RowFilter, feature: &str, kind: &str) -> Vec<Read> {
    let of = |table, column, only_newest| {
        let mut filter = RowFilter { only_newest, ..chosen.clone() };
        filter.exact.push((column, feature.to_owned()));
        Read { table, filter, of_all_segments: false }
    };
    // Drift of scores, predictions and labels has no feature, and they have no other rows.
    if kind != FEATURE {
        return vec![of(MetricTable::Drift, "kind", false)];
    }
    vec![
        of(MetricTable::Drift, "feature", false),
        of(MetricTable::DataQuality, "feature", false),
        of(MetricTable::Categories, "feature", true),
    ]
}

/// The rows that a page is made of.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    /// The tables that have more.
    full: Vec<String>,
}

impl Found {
    fn add(&mut self, read: &Read, mut rows: Vec<Row>, segment: &str) {
        let of = if read.of_all_segments { " of all segments" } else { "" };
        if usize::try_from(read.filter.limit).is_ok_and(|most| rows.len() >= most) {
            self.full.push(format!("{}{of}", read.table.name()));
        }
        if read.of_all_segments {
            // Those of the chosen one are there already.
            rows.retain(|row| row.segment != segment);
        }
        self.rows.extend(rows);
    }
}

#[cfg(test)]
mod tests;
