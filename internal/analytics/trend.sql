-- Version 2. The roll-ups once more, by (tenant) and by (tenant, API) only, for
-- series: api is '' for the whole tenant, step is the length of the bucket in
-- seconds. It is written with the roll-ups and always agrees with them.
CREATE TABLE trend (
    step INTEGER NOT NULL, bucket INTEGER NOT NULL, tenant TEXT NOT NULL, api TEXT NOT NULL,
    n INTEGER NOT NULL, errors INTEGER NOT NULL, refused INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, gateway BLOB, backend BLOB,
    PRIMARY KEY (step, bucket, tenant, api)
) WITHOUT ROWID;

CREATE TEMP TABLE part AS
    SELECT t.step, t.bucket, d.tenant, d.api, sum(t.n) AS n,
        coalesce(sum(t.n) FILTER (WHERE d.status >= 400), 0) AS errors, coalesce(sum(t.n) FILTER (WHERE d.code > 0 AND d.status >= 400), 0) AS refused,
        sum(t.bytes_in) AS bytes_in, sum(t.bytes_out) AS bytes_out, hist_sum(t.gateway) AS gateway, hist_sum(t.backend) AS backend
    FROM (SELECT 60 AS step, * FROM minute UNION ALL SELECT 3600, * FROM hour UNION ALL SELECT 86400, * FROM day) t
    CROSS JOIN dim d ON d.id = t.dim GROUP BY t.step, t.bucket, d.tenant, d.api;
INSERT INTO trend SELECT * FROM part WHERE api <> '';
INSERT INTO trend SELECT step, bucket, tenant, '', sum(n), sum(errors), sum(refused), sum(bytes_in), sum(bytes_out), hist_sum(gateway), hist_sum(backend)
    FROM part GROUP BY step, bucket, tenant;
DROP TABLE part;
