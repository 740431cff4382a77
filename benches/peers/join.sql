WITH is_there AND label_at BETWEEN at AND at + INTERVAL 1 HOUR AS found
SELECT
    model, version, toUnixTimestamp(toStartOfFiveMinutes(at)) * 1000 AS window_start, 'all' AS part,
    count() AS inferences, countIf(found) AS labelled,
    countIf(found AND decision = 1 AND label = 1) AS tp, countIf(found AND decision = 1 AND label = 0) AS fp,
    countIf(found AND decision = 0 AND label = 1) AS fn, countIf(found AND decision = 0 AND label = 0) AS tn
FROM peer.inferences
LEFT ANY JOIN (SELECT request_id, at AS label_at, label, true AS is_there FROM peer.labels) AS labels USING (request_id)
GROUP BY model, version, window_start
FORMAT JSONEachRow
SETTINGS output_format_json_quote_64bit_integers = 0
