import { chmod, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fastify } from 'fastify';
import { describe } from '../errors/error.ts';
import { recordWork, type Metrics, type WorkDone } from './metrics.ts';
import { isHealthy, type StatusReport } from './status-report.ts';

export interface ControlServer {
  close(): Promise<void>;
}

/**
 * A command for the daemon, by its path: takes the JSON body of a POST, reports progress in lines, and returns the
 * result.
 */
export type ControlCommand = (body: unknown, progress: (line: string) => void) => Promise<object>;

/**
 * Serves `/status` (JSON), `/health` (200 or 503) and `/metrics` (Prometheus text) on a Unix socket for root and its
 * group. Example: `curl --unix-socket FILE http://calico/metrics`. The response to a command is a line of JSON for each
 * `progress`, and one for its `result` or `error`; a command goes on when its client has gone.
 */
export async function startControlServer(options: {
  readonly file: string;
  readonly status: () => Promise<StatusReport>;
  readonly metrics: Metrics;
  /** Other reports, by path, as JSON. */
  readonly reports: Readonly<Record<string, () => Promise<object>>>;
  /** Work counted since the start, for the metrics of the same names. */
  readonly work: () => WorkDone;
  readonly commands: Readonly<Record<string, ControlCommand>>;
}): Promise<ControlServer> {
  const { file, status, metrics, reports, work, commands } = options;
  // Clients that have not sent a complete request by then are disconnected.
  const app = fastify({ requestTimeout: 60_000 });
  app.get('/status', async () => status());
  for (const [path, report] of Object.entries(reports)) app.get(path, async () => report());
  app.get('/health', async (_request, reply) => {
    const report = await status();
    const failing = report.checks.filter(({ ok }) => !ok).map(({ name }) => name);
    return reply.code(isHealthy(report) ? 200 : 503).send({ healthy: isHealthy(report), failing });
  });
  app.get('/metrics', async (_request, reply) => {
    recordWork(metrics, work());
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  for (const [path, command] of Object.entries(commands)) {
    app.post(path, (request, reply) => {
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
      const write = (line: object) => raw.write(`${JSON.stringify(line)}\n`);
      command(request.body, (progress) => write({ progress }))
        .then((result) => write({ result }))
        .catch((error: unknown) => write({ error: describe(error) }))
        .finally(() => raw.end());
    });
  }
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
