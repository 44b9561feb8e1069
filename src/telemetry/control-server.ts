import { chmod, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fastify } from 'fastify';
import { recordWork, type Metrics, type WorkDone } from './metrics.ts';
import { isHealthy, type StatusReport } from './status-report.ts';

export interface ControlServer {
  close(): Promise<void>;
}

/**
 * Serves `/status` (JSON), `/health` (200 or 503) and `/metrics` (Prometheus text) on a Unix socket for root and its
 * group. Example: `curl --unix-socket FILE http://calico/metrics`.
 */
export async function startControlServer(options: {
  readonly file: string;
  readonly status: () => Promise<StatusReport>;
  readonly metrics: Metrics;
  /** Work counted since the start, for the metrics of the same names. */
  readonly work: () => WorkDone;
}): Promise<ControlServer> {
  const { file, status, metrics, work } = options;
  // Clients that have not sent a complete request by then are disconnected.
  const app = fastify({ requestTimeout: 60_000 });
  app.get('/status', async () => status());
  app.get('/health', async (_request, reply) => {
    const report = await status();
    const failing = report.checks.filter(({ ok }) => !ok).map(({ name }) => name);
    return reply.code(isHealthy(report) ? 200 : 503).send({ healthy: isHealthy(report), failing });
  });
  app.get('/metrics', async (_request, reply) => {
    recordWork(metrics, work());
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  await mkdir(dirname(file), { recursive: true, mode: 0o755 });
  await rm(file, { force: true });
  await app.listen({ path: file });
  await chmod(file, 0o660);
  return {
    close: async () => {
      await app.close();
    },
  };
}
