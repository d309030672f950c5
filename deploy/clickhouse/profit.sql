-- The profit report from the exported tables, in SQL that ClickHouse and DuckDB both take: by UTC day,
-- team, job type, alias and deployment. Sum its columns over days and group them as the report does.
-- margin = price - refunds - provider cost. Rows without an alias are the jobs' own prices; those
-- without a team are cost corrections that no call explains.
SELECT
    CAST(finished_at AS DATE) AS day,
    team,
    organization,
    job_type,
    alias,
    COALESCE(deployment_id, 0) AS deployment,
    0 AS jobs,
    0 AS failed_jobs,
    COUNT(*) AS calls,
    SUM(CASE WHEN status <> 'settled' OR error_code <> '' THEN 1 ELSE 0 END) AS failed_calls,
    SUM(prompt_tokens) AS prompt_tokens,
    SUM(cached_tokens) AS cached_tokens,
    SUM(completion_tokens) AS completion_tokens,
    SUM(provider_cost_nano_usd) AS provider_cost_nano_usd,
    SUM(charged_nanocredits) AS charged_nanocredits,
    SUM(price_nano_usd) AS price_nano_usd,
    SUM(refunded_nanocredits) AS refunded_nanocredits,
    SUM(refunded_nano_usd) AS refunded_nano_usd,
    SUM(overrun_nanocredits) AS overrun_nanocredits,
    SUM(CASE WHEN is_cache_hit THEN 1 ELSE 0 END) AS cache_hits,
    SUM(saved_nano_usd) AS saved_nano_usd,
    SUM(CASE WHEN usage_source = 'estimate' AND deployment_id IS NOT NULL THEN 1 ELSE 0 END)
        AS estimated_calls
FROM calls
GROUP BY CAST(finished_at AS DATE), team, organization, job_type, alias, COALESCE(deployment_id, 0)
UNION ALL
SELECT
    CAST(closed_at AS DATE),
    team,
    organization,
    job_type,
    '',
    0,
    COUNT(*),
    SUM(CASE WHEN status IN ('failed', 'cancelled') THEN 1 ELSE 0 END),
    0, 0, 0, 0, 0, 0,
    SUM(base_charged_nanocredits),
    SUM(base_price_nano_usd),
    SUM(base_refunded_nanocredits),
    SUM(base_refunded_nano_usd),
    SUM(base_overrun_nanocredits),
    0, 0, 0
FROM jobs
GROUP BY CAST(closed_at AS DATE), team, organization, job_type
UNION ALL
SELECT day, '', '', '', '', 0, 0, 0, 0, 0, 0, 0, 0, SUM(amount_nano_usd), 0, 0, 0, 0, 0, 0, 0, 0
FROM cost_lines
WHERE call_id IS NULL
GROUP BY day
