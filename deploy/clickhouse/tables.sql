-- The tables of the export in ClickHouse. Money is in nano units, integers: 10^9 make one USD or credit.
-- A row that was exported again replaces the one before: the greater serial stays. Ask the views,
-- which leave replaced rows out. Partitions are by a time that never changes.

CREATE TABLE IF NOT EXISTS calls_loaded (
    id UUID,
    job_id UUID,
    team LowCardinality(String),
    organization LowCardinality(String),
    job_type LowCardinality(String),
    alias LowCardinality(String),
    deployment_id Nullable(Int64),
    model LowCardinality(Nullable(String)),
    status LowCardinality(String),
    error_code LowCardinality(String),
    is_stream Bool,
    is_cache_hit Bool,
    is_output_delivered Bool,
    usage_source LowCardinality(String),
    created_at DateTime64(6, 'UTC'),
    finished_at DateTime64(6, 'UTC'),
    latency_ms Int64,
    prompt_tokens Int64,
    cached_tokens Int64,
    completion_tokens Int64,
    total_tokens Int64,
    provider_cost_nano_usd Int64,
    price_nanocredits Int64,
    price_nano_usd Int64,
    charged_nanocredits Int64,
    overrun_nanocredits Int64,
    refunded_nanocredits Int64,
    refunded_nano_usd Int64,
    saved_nano_usd Int64,
    serial UInt64,
    provider_cost_usd Decimal(38, 9) ALIAS toDecimal128(provider_cost_nano_usd, 9) / 1000000000,
    price_credits Decimal(38, 9) ALIAS toDecimal128(price_nanocredits, 9) / 1000000000,
    price_usd Decimal(38, 9) ALIAS toDecimal128(price_nano_usd, 9) / 1000000000,
    charged_credits Decimal(38, 9) ALIAS toDecimal128(charged_nanocredits, 9) / 1000000000,
    overrun_credits Decimal(38, 9) ALIAS toDecimal128(overrun_nanocredits, 9) / 1000000000,
    refunded_credits Decimal(38, 9) ALIAS toDecimal128(refunded_nanocredits, 9) / 1000000000,
    refunded_usd Decimal(38, 9) ALIAS toDecimal128(refunded_nano_usd, 9) / 1000000000,
    saved_usd Decimal(38, 9) ALIAS toDecimal128(saved_nano_usd, 9) / 1000000000
) ENGINE = ReplacingMergeTree(serial)
PARTITION BY toYYYYMM(created_at)
ORDER BY (team, id);

CREATE VIEW IF NOT EXISTS calls AS SELECT * FROM calls_loaded FINAL;

CREATE TABLE IF NOT EXISTS jobs_loaded (
    id UUID,
    team LowCardinality(String),
    organization LowCardinality(String),
    job_type LowCardinality(String),
    status LowCardinality(String),
    outcome LowCardinality(String),
    is_single Bool,
    created_at DateTime64(6, 'UTC'),
    closed_at DateTime64(6, 'UTC'),
    successful_calls Int64,
    failed_calls Int64,
    base_price_nano_usd Int64,
    base_charged_nanocredits Int64,
    base_overrun_nanocredits Int64,
    base_refunded_nanocredits Int64,
    base_refunded_nano_usd Int64,
    serial UInt64,
    base_price_usd Decimal(38, 9) ALIAS toDecimal128(base_price_nano_usd, 9) / 1000000000,
    base_charged_credits Decimal(38, 9) ALIAS toDecimal128(base_charged_nanocredits, 9) / 1000000000,
    base_overrun_credits Decimal(38, 9) ALIAS toDecimal128(base_overrun_nanocredits, 9) / 1000000000,
    base_refunded_credits Decimal(38, 9) ALIAS toDecimal128(base_refunded_nanocredits, 9) / 1000000000,
    base_refunded_usd Decimal(38, 9) ALIAS toDecimal128(base_refunded_nano_usd, 9) / 1000000000
) ENGINE = ReplacingMergeTree(serial)
PARTITION BY toYYYYMM(created_at)
ORDER BY (team, id);

CREATE VIEW IF NOT EXISTS jobs AS SELECT * FROM jobs_loaded FINAL;

CREATE TABLE IF NOT EXISTS attempts_loaded (
    id Int64,
    call_id UUID,
    deployment_id Int64,
    model LowCardinality(String),
    number Int64,
    started_at DateTime64(6, 'UTC'),
    ended_at Nullable(DateTime64(6, 'UTC')),
    failure LowCardinality(String),
    failure_status Nullable(Int64),
    serial UInt64
) ENGINE = ReplacingMergeTree(serial)
PARTITION BY toYYYYMM(started_at)
ORDER BY id;

CREATE VIEW IF NOT EXISTS attempts AS SELECT * FROM attempts_loaded FINAL;

CREATE TABLE IF NOT EXISTS cost_lines_loaded (
    id Int64,
    call_id Nullable(UUID),
    attempt_id Nullable(Int64),
    model LowCardinality(String),
    day Nullable(Date),
    kind LowCardinality(String),
    amount_nano_usd Int64,
    created_at DateTime64(6, 'UTC'),
    serial UInt64,
    amount_usd Decimal(38, 9) ALIAS toDecimal128(amount_nano_usd, 9) / 1000000000
) ENGINE = ReplacingMergeTree(serial)
PARTITION BY toYYYYMM(created_at)
ORDER BY id;

CREATE VIEW IF NOT EXISTS cost_lines AS SELECT * FROM cost_lines_loaded FINAL;

CREATE TABLE IF NOT EXISTS entries_loaded (
    id Int64,
    account_id Int64,
    team LowCardinality(Nullable(String)),
    kind LowCardinality(String),
    amount_nanocredits Int64,
    balance_after_nanocredits Int64,
    price_nano_usd Nullable(Int64),
    reference String,
    corrects_id Nullable(Int64),
    created_at DateTime64(6, 'UTC'),
    serial UInt64,
    amount_credits Decimal(38, 9) ALIAS toDecimal128(amount_nanocredits, 9) / 1000000000,
    balance_after_credits Decimal(38, 9) ALIAS toDecimal128(balance_after_nanocredits, 9) / 1000000000,
    price_usd Decimal(38, 9) ALIAS toDecimal128(price_nano_usd, 9) / 1000000000
) ENGINE = ReplacingMergeTree(serial)
PARTITION BY toYYYYMM(created_at)
ORDER BY id;

CREATE VIEW IF NOT EXISTS entries AS SELECT * FROM entries_loaded FINAL;

