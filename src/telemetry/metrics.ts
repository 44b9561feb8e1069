import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/**
 * Prometheus metrics of the daemon. Names include the unit; labels have few values: no addresses, containers or
 * networks.
 */
export interface Metrics {
  readonly registry: Registry;
  /** Plugin calls of Docker by method and outcome (`ok`, or the error code). */
  readonly calls: Counter<'method' | 'outcome'>;
  readonly callSeconds: Histogram<'method'>;
  /** Endpoints of this host in quarantine: their container is unknown until Docker responds. */
  readonly quarantined: Gauge;
  /** Failures of background tasks, by name as in `status`. */
  readonly workFailures: Counter<'work'>;
  readonly forks: Counter;
  readonly tableTransactions: Counter;
  readonly netlinkRequests: Counter;
  readonly datastoreTransactions: Counter;
}

/** Totals since the start. */
export interface WorkDone {
  readonly forks: number;
  readonly tableTransactions: number;
  readonly netlinkRequests: number;
  readonly datastoreTransactions: number;
}

/** Sets the counters to the totals. */
export function recordWork(metrics: Metrics, done: WorkDone): void {
  for (const name of [
    'forks',
    'tableTransactions',
    'netlinkRequests',
    'datastoreTransactions',
  ] as const) {
    metrics[name].reset();
    metrics[name].inc(done[name]);
  }
}

const millisecondBuckets = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5];

/** Returns the metrics of a daemon, in their own registry. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = (name: string, help: string) => new Counter({ name, help, registers });
  registry.registerMetric(residentMemory());
  registry.registerMetric(processorTime());
  return {
    registry,
    calls: new Counter({
      name: 'calico_docker_calls_total',
      help: "Docker's plugin calls by method and outcome",
      labelNames: ['method', 'outcome'],
      registers,
    }),
    callSeconds: new Histogram({
      name: 'calico_docker_call_seconds',
      help: "Duration of Docker's plugin calls",
      labelNames: ['method'],
      buckets: millisecondBuckets,
      registers,
    }),
    quarantined: new Gauge({
      name: 'calico_quarantined_endpoints',
      help: 'Endpoints in quarantine: container not known yet, all traffic dropped',
      registers,
    }),
    workFailures: new Counter({
      name: 'calico_background_failures_total',
      help: 'Failures of background tasks, by name; they are retried',
      labelNames: ['work'],
      registers,
    }),
    forks: counter('calico_forks_total', 'Processes started'),
    tableTransactions: counter('calico_table_transactions_total', 'iptables-restore transactions'),
    netlinkRequests: counter('calico_netlink_requests_total', 'Netlink requests sent'),
    datastoreTransactions: counter('calico_datastore_transactions_total', 'Datastore transactions'),
  };
}

// prom-client's default process metrics wake the process 100 times a second; these are read on request.

function residentMemory(): Gauge {
  return new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory',
    registers: [],
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
}

function processorTime(): Gauge {
  return new Gauge({
    name: 'process_cpu_seconds_total',
    help: 'CPU time, user and system',
    registers: [],
    collect() {
      const { user, system } = process.cpuUsage();
      this.set((user + system) / 1e6);
    },
  });
}
