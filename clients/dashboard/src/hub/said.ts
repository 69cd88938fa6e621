/**
 * What the hub says of itself. Written by scripts/write_tables.py from the types of its reports.
 */
/* oxlint-disable */
export type CallInFlight = {
  call: number;
  method: string;
  id: number | string | null;
  principal: string | null;
  connection: number | null;
  state: "queued" | "running";
  executor: string | null;
  /**
   * since the hub received it
   */
  age_ms: number;
  /**
   * since its executor got it; null while it is queued
   */
  running_ms: number | null;
  chunks: number;
  depth: number;
  trace_id: string | null;
  tenant?: string | null;
};

export type CallList = {
  calls: CallInFlight[];
  more: number;
};

export type Cause = {
  kind: "down" | "held" | "not_loaded" | "not_replaced" | "silent" | "starting" | "stopping";
  subject: string;
  since: number;
  text: string;
};

export type ClosedConnection = {
  connection: number;
  duration_ms: number;
};

export type ConnectionReport = {
  connection: number;
  peer: string;
  principal: string;
  tenant: string;
  transport: string;
  client: string | null;
  duration_ms: number;
  calls: number;
  streams: number;
  subscriptions: number;
  session: boolean;
  received_bytes: number | null;
  sent_bytes: number | null;
  in_bytes_per_second: number | null;
  out_bytes_per_second: number | null;
  buffered_bytes: number;
  lag_ms: number;
  dropped_events: number;
};

export type ConnectionsReport = {
  opened: OpenedConnection[];
  closed: ClosedConnection[];
  dropped: number;
  open: number;
  connections: ConnectionReport[] | null;
};

export type DetailedHealth = {
  status: "degraded" | "healthy" | "starting" | "stopping" | "unhealthy";
  ready: boolean;
  /**
   * when the status became what it is
   */
  since: number;
  worker_id: string;
  uptime_seconds: number;
  request_count: number | null;
  error_count: number | null;
  error_rate: number | null;
  active_requests: number | null;
  memory_usage: Memory | null;
  cpu_percent: number | null;
  pipelines_loaded: number;
  timestamp: string;
  /**
   * why the status is not healthy, in words
   */
  causes: string[];
  groups: GroupHealth[];
  /**
   * methods that are not served, or fail; others are served
   */
  methods: MethodHealth[];
  /**
   * how many more such methods are not listed
   */
  methods_more: number;
  connections: number;
  waiting_requests: number;
  executors: ExecutorReport[];
};

export type EndedCall = {
  method: string;
  principal: string | null;
  connection: number | null;
  id: number | string | null;
  request_id: string | null;
  trace_id: string | null;
  outcome: string;
  code: number;
  message: string | null;
  failure: number | null;
  duration_ms: number;
  queue_ms: number;
  run_ms: number | null;
  executor: string | null;
  chunks: number;
  bytes_in: number;
  bytes_out: number;
  finished_at: number;
  tenant?: string | null;
};

export type ExecutorReport = {
  worker_id: string;
  group: string;
  status: "busy" | "down" | "ready" | "silent" | "starting" | "stopping";
  pid: number | null;
  /**
   * of the process; null where there is none
   */
  uptime_seconds: number | null;
  slots: number;
  slots_leaving: number;
  active_requests: number;
  request_count: number;
  error_count: number;
  /**
   * 0 to 1, of all its calls
   */
  error_rate: number;
  /**
   * packs and modules of methods that are loaded
   */
  pipelines_loaded: number;
  restarts: number;
  restart_causes: Record<string, number>;
  last_restart: LastRestart | null;
  last_failure: string | null;
  /**
   * from the last ping to its pong
   */
  latency_ms: number | null;
  memory_usage?: Memory | null;
  /**
   * of one CPU, over about a second; null before
   */
  cpu_percent?: number | null;
};

export type ExecutorsReport = {
  executors: WorkingExecutor[];
};

export type Failure = {
  failure: number;
  kept: boolean;
  method: string | null;
  params: unknown;
  redacted: number;
};

export type GroupHealth = {
  name: string;
  status: "degraded" | "healthy" | "starting" | "stopping" | "unhealthy";
  ready: boolean;
  /**
   * when the status became what it is
   */
  since: number;
  executors: number;
  /**
   * executors that answer
   */
  serving: number;
  /**
   * null for those who may not see what other tenants do
   */
  waiting_requests: number | null;
  causes: Cause[];
};

export type HubMetrics = {
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  wait_p50_ms: number;
  wait_p95_ms: number;
  wait_p99_ms: number;
  run_p50_ms: number;
  run_p95_ms: number;
  run_p99_ms: number;
  connections: number;
  subscriptions: number;
  streams: number;
  calls_in_flight: number;
  calls_waiting: number;
  calls_per_second: number;
  errors_per_second: number;
  errors: Record<string, number>;
  events_per_second: number;
  deliveries_per_second: number;
  bytes_in_per_second: number;
  bytes_out_per_second: number;
  buffered_bytes: number;
  events_dropped: number;
  rss_mb: number;
};

export type LastError = {
  type: string;
  code: number;
  message: string | null;
  at: number;
};

export type LastRestart = {
  cause: string;
  words: string;
  number: number;
  at: number;
};

export type LogRecord = {
  time: string;
  level: string;
  logger: string;
  event: string;
};

export type LogsReport = {
  records: LogRecord[];
  dropped: number;
};

export type Memory = {
  rss_mb: number;
  vms_mb: number;
  percent: number;
};

export type MethodHealth = {
  method: string;
  /**
   * null where clients serve it
   */
  group: string | null;
  status: "failing" | "unavailable";
  since: number;
  reason: string;
  calls?: number;
  failed?: number;
  failed_per_second?: number;
  last_error?: LastError | null;
  /**
   * whose clients serve it
   */
  tenant?: string;
};

export type MethodMetrics = {
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  wait_p50_ms: number;
  wait_p95_ms: number;
  wait_p99_ms: number;
  run_p50_ms: number;
  run_p95_ms: number;
  run_p99_ms: number;
  count: number;
  success: number;
  errors: Record<string, number>;
  mean_ms: number;
  max_ms: number;
  bytes_in: number;
  bytes_out: number;
};

export type Metrics = {
  window_seconds: number;
  request_count: number;
  error_count: number;
  requests_per_second: number;
  total: MethodMetrics;
  active_requests: number;
  waiting_requests: number;
  methods: Record<string, MethodMetrics>;
  workers: Record<string, WorkerMetrics>;
  tenants?: Record<string, Record<string, MethodMetrics>>;
  by_tenant?: Record<string, TenantMetrics>;
  series?: MetricsSample[];
};

export type MetricsSample = {
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  wait_p50_ms: number;
  wait_p95_ms: number;
  wait_p99_ms: number;
  run_p50_ms: number;
  run_p95_ms: number;
  run_p99_ms: number;
  seconds_ago: number;
  seconds: number;
  calls: number;
  errors: number;
};

export type OpenedConnection = {
  connection: number;
  peer: string;
  principal: string;
  tenant: string;
  transport: string;
  client: string | null;
  opened_at: number;
};

export type RequestsReport = {
  requests: EndedCall[];
  dropped: number;
};

export type RunningCall = {
  call: number;
  method: string;
  id: number | string | null;
  principal: string | null;
  connection: number | null;
  state: "queued" | "running";
  executor: string | null;
  /**
   * since the hub received it
   */
  age_ms: number;
  /**
   * since its executor got it; null while it is queued
   */
  running_ms: number | null;
  chunks: number;
  depth: number;
  trace_id: string | null;
  tenant?: string | null;
  parked: boolean;
};

export type Serving = {
  status: "degraded" | "healthy" | "starting" | "stopping" | "unhealthy";
  ready: boolean;
  /**
   * when the status became what it is
   */
  since: number;
  /**
   * why the status is not healthy, in words
   */
  causes: string[];
  groups: GroupHealth[];
  /**
   * methods that are not served, or fail; others are served
   */
  methods: MethodHealth[];
  /**
   * how many more such methods are not listed
   */
  methods_more: number;
};

export type SubscribedPattern = {
  pattern: string;
  subscribers: number;
  tenant?: string;
};

export type TenantMetrics = {
  count: number;
  failed: number;
  refused: number;
  seconds: number;
  executor_seconds: number;
  bytes_in: number;
  bytes_out: number;
};

export type TopicList = {
  topics: TopicReport[];
  more: number;
  subscribed: SubscribedPattern[];
  tenant?: string;
};

export type TopicReport = {
  topic: string;
  epoch: string;
  offset: number;
  kept: number;
  kept_bytes: number;
  oldest_at: number | null;
  subscribers: number;
  /**
   * whose it is; default where all have it in common
   */
  tenant?: string;
};

export type WorkedCalls = {
  count: number;
  success: number;
  mean_ms: number;
};

export type WorkerMetrics = {
  count: number;
  success: number;
  mean_ms: number;
  methods?: Record<string, WorkedCalls>;
};

export type WorkingExecutor = {
  worker_id: string;
  group: string;
  status: "busy" | "down" | "ready" | "silent" | "starting" | "stopping";
  pid: number | null;
  /**
   * of the process; null where there is none
   */
  uptime_seconds: number | null;
  slots: number;
  slots_leaving: number;
  active_requests: number;
  request_count: number;
  error_count: number;
  /**
   * 0 to 1, of all its calls
   */
  error_rate: number;
  /**
   * packs and modules of methods that are loaded
   */
  pipelines_loaded: number;
  restarts: number;
  restart_causes: Record<string, number>;
  last_restart: LastRestart | null;
  last_failure: string | null;
  /**
   * from the last ping to its pong
   */
  latency_ms: number | null;
  memory_usage?: Memory | null;
  /**
   * of one CPU, over about a second; null before
   */
  cpu_percent?: number | null;
  running?: RunningCall[];
};
