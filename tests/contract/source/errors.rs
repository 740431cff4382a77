//! Errors that a broker answers with: the source goes on, and delivers each record once.

use super::*;
use RDKafkaApiKey as Api;
use RDKafkaRespErr as E;

const STALE: E = E::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
const REBALANCING: E = E::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
const UNKNOWN: E = E::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
const AWAY: E = E::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
const ELSEWHERE: E = E::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
const LOADING: E = E::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
const TIMED_OUT: E = E::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT;

/// Heartbeats that come often. Requests that the client gives up itself are not tried here: the mock cluster ends the
/// process when a member asks twice for its assignment.
fn quick(cluster: &Cluster) -> KafkaSettings {
    let mut settings = settings(cluster);
    settings.properties.push(("heartbeat.interval.ms".to_owned(), "100".to_owned()));
    settings
}

fn commit(group: &Group) -> Result<(), SourceError> {
    let marks: Vec<Mark> = group
        .marks
        .iter()
        .map(|(&partition, &positions)| Mark::start(partition, positions, 8))
        .collect();
    group.instances[0].as_ref().unwrap().commits.commit(&marks)
}

/// The position that lag tools see of the last partition of the labels.
fn committed(reader: &BaseConsumer) -> ListedOffset {
    let mut list = TopicPartitionList::new();
    list.add_partition("la", PARTITIONS - 1);
    // Errors that are meant for others may hit this question too.
    let list = reader.committed_offsets(list, Duration::from_secs(5));
    list.map_or(ListedOffset::Invalid, |list| list.elements()[0].offset())
}

fn reader(cluster: &Cluster) -> BaseConsumer {
    let properties = [("group.id".to_owned(), "job".to_owned())];
    client_config(&cluster.bootstrap_servers(), &properties).create().unwrap()
}

#[test]
fn commits_that_fail_are_only_told() {
    let cluster = cluster();
    let mut group = Group::new();
    group.join(&quick(&cluster));
    let mut sent = 0;
    for error in [TIMED_OUT, LOADING, AWAY, ELSEWHERE, REBALANCING, UNKNOWN, STALE] {
        produce(&cluster, &Stream::BOTH, sent..sent + 50);
        sent += 50;
        group.until("records", |group| group.seen.len() == all(sent));
        cluster.request_errors(Api::OffsetCommit, &[error; 3]);
        for _ in 0..3 {
            commit(&group).unwrap();
            group.step().unwrap();
        }
    }
    produce(&cluster, &Stream::BOTH, sent..sent + 50);
    sent += 50;
    group.until("records after it", |group| group.seen.len() >= all(sent));
    cluster.clear_request_errors(Api::OffsetCommit);
    let reader = reader(&cluster);
    let mut next = now();
    group.until("a commit that succeeds", |group| {
        if now() >= next {
            commit(group).unwrap();
            next = now() + Duration::from_millis(200);
        }
        committed(&reader) == ListedOffset::Offset(sent)
    });
    group.assert_delivered(&Stream::BOTH, 0, sent);
}

/// Reads, then meets these errors, then reads on.
fn survives(api: Api, errors: &[E]) {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..200);
    let mut group = Group::new();
    cluster.request_errors(api, errors);
    group.join(&quick(&cluster));
    group.until("records", |group| group.seen.len() >= all(200));
    cluster.clear_request_errors(api);
    cluster.request_errors(api, errors);
    // Whoever joins makes all join, sync and look for their coordinator again.
    group.join(&quick(&cluster));
    produce(&cluster, &Stream::BOTH, 200..400);
    group.until("records after it", |group| group.seen.len() >= all(400));
    group.until("records of both", |group| group.assigned >= 3);
    produce(&cluster, &Stream::BOTH, 400..500);
    group.until("all records", |group| group.seen.len() >= all(500));
    group.assert_delivered(&Stream::BOTH, 0, 500);
}

#[test]
fn errors_on_heartbeats_are_survived() {
    survives(Api::Heartbeat, &[REBALANCING, ELSEWHERE, AWAY, STALE, UNKNOWN]);
}

#[test]
fn errors_on_joining_are_survived() {
    survives(Api::JoinGroup, &[REBALANCING, ELSEWHERE, AWAY, UNKNOWN]);
}

#[test]
fn errors_on_syncing_are_survived() {
    survives(Api::SyncGroup, &[REBALANCING, STALE, UNKNOWN]);
}

#[test]
fn a_coordinator_that_is_away_is_waited_for() {
    survives(Api::FindCoordinator, &[AWAY, AWAY, LOADING, AWAY]);
}

/// The marks say where to read, so nothing that is committed is needed.
#[test]
fn errors_on_fetching_offsets_are_survived() {
    survives(Api::OffsetFetch, &[AWAY, ELSEWHERE, STALE, UNKNOWN, LOADING, TIMED_OUT]);
}

#[test]
fn errors_on_fetching_are_survived() {
    let leader = E::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    let moved = E::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    survives(Api::Fetch, &[TIMED_OUT, leader, moved, TIMED_OUT]);
}

#[test]
fn where_a_partition_begins_is_asked_until_there_is_an_answer() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..50);
    let mut group = Group::new();
    let refusal = E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(Api::ListOffsets, &[refusal; 500]);
    group.join(&quick(&cluster));
    let health = group.health(0);
    group.until("a reason", |_| {
        health.outage().is_some_and(|reason| reason.contains("where the topics begin"))
    });
    // One more member: group events come through meanwhile.
    group.join(&quick(&cluster));
    group.until("a revocation", |group| group.revoked >= 1);
    assert_eq!(group.seen, []);
    cluster.clear_request_errors(Api::ListOffsets);
    group.until("records", |group| group.seen.len() >= all(50));
    group.assert_delivered(&Stream::BOTH, 0, 50);
    group.until("no reason", |_| health.outage().is_none());
}
