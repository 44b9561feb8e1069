import { randomUUID } from 'node:crypto';
import { fastify, type FastifyInstance, type FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { CalicoError, toCalicoError } from '../../errors/error.ts';
import { firstIssue } from '../../model/issues.ts';
import { listenOnSocketFile, type SocketFile } from './socket-file.ts';

/**
 * Docker's plugin protocol: POST of one JSON object to `/<Driver>.<Method>` on a Unix socket. Source: Docker plugin
 * API; differences between versions are in docs/docker.md.
 */

/** One method: the schema of its body (none: the body may be empty) and its implementation. */
export interface Method {
  readonly answer: (body: unknown, signal: AbortSignal) => Promise<object>;
  readonly takesBody: boolean;
}

/** Binds a schema to the function that gets its value. */
export function method<Request>(
  schema: z.ZodType<Request>,
  answer: (request: Request, signal: AbortSignal) => Promise<object>,
): Method {
  return {
    takesBody: true,
    answer: (body, signal) => {
      const result = schema.safeParse(body);
      if (result.success) return answer(result.data, signal);
      const { field, why } = firstIssue(result.error);
      throw new CalicoError('driver/bad-request', { field, why });
    },
  };
}

/** A method without a request: Docker sends an empty body. */
export function methodWithoutBody(answer: () => object): Method {
  return { takesBody: false, answer: () => Promise.resolve(answer()) };
}

/** One finished call, for log and metrics. */
export interface CallRecord {
  readonly method: string;
  readonly callId: string;
  readonly durationMs: number;
  readonly error: CalicoError | undefined;
  /** The bodies of request and response, if the call got so far. */
  readonly asked?: unknown;
  readonly answered?: unknown;
}

export interface PluginServerOptions {
  /** By path without the slash: `NetworkDriver.Join`. */
  readonly methods: Readonly<Record<string, Method>>;
  readonly onCall: (record: CallRecord) => void;
}

export interface PluginServer {
  /** Serves on the socket files; each replaces a stale one of its name. */
  listen(socketFiles: readonly string[]): Promise<void>;

  /** Serves on a socket that is already listening. */
  serve(socket: SocketFile): void;

  /** Accepts no new calls, lets the running ones end (at most 10 s), removes the sockets. */
  close(): Promise<void>;
}

const contentType = 'application/vnd.docker.plugins.v1.2+json';
const drainMs = 10_000;
/** Docker lists published ports one by one, at about 120 bytes each; all ports of two protocols take 16 MB. */
const bodyLimitBytes = 1 << 24;

/** Creates the server; nothing listens before `listen`. */
export async function createPluginServer(options: PluginServerOptions): Promise<PluginServer> {
  const stopping = new AbortController();
  const app = createApp(options, stopping.signal);
  await app.ready();
  const sockets: SocketFile[] = [];
  const serve = (socket: SocketFile): void => {
    socket.serve((request, response) => app.routing(request, response));
    sockets.push(socket);
  };
  return {
    serve,
    listen: async (socketFiles) => {
      for (const file of socketFiles) serve(await listenOnSocketFile(file));
    },
    close: async () => {
      const force = setTimeout(() => stopping.abort(), drainMs);
      await Promise.all(sockets.splice(0).map((socket) => socket.close()));
      clearTimeout(force);
      await app.close();
    },
  };
}

function createApp(
  { methods, onCall }: PluginServerOptions,
  stopping: AbortSignal,
): FastifyInstance {
  const app = fastify({
    genReqId: () => randomUUID().slice(0, 8),
    bodyLimit: bodyLimitBytes,
    exposeHeadRoutes: false,
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body));

  app.addHook('onRequest', async (_request, reply) => {
    // Docker may write its next call on a connection that is being closed, and then repeats the call with an empty
    // body (moby pkg/plugins/client.go). A separate connection for each call avoids that.
    reply.header('connection', 'close').type(contentType);
  });
  for (const [name, { answer, takesBody }] of Object.entries(methods)) {
    app.post(`/${name}`, async (request, reply) => {
      const started = performance.now();
      let asked: unknown;
      const finish = (end: Pick<CallRecord, 'error' | 'answered'>) =>
        onCall({
          method: name,
          callId: request.id,
          durationMs: performance.now() - started,
          asked,
          ...end,
        });
      try {
        asked = parseBody(request.body, takesBody);
        const result = await answer(asked, stopping);
        finish({ error: undefined, answered: result });
        return await reply.send(JSON.stringify(result));
      } catch (thrown) {
        const error = toCalicoError(thrown);
        finish({ error });
        return await reply.code(500).send(failure(`${error.message} [${request.id}]`));
      }
    });
  }
  const reject = (request: FastifyRequest, error: CalicoError): string => {
    const name = request.url.slice(1);
    // Metrics have a label for each method: an unknown name must not create a new one.
    const called = name in methods ? name : 'unknown';
    onCall({ method: called, callId: request.id, durationMs: 0, error });
    return failure(`${error.message} [${request.id}]`);
  };
  app.setNotFoundHandler((request, reply) => {
    const call = `${request.method} ${request.url}`;
    // 404 is Docker's "not implemented" (moby, libnetwork/drivers/remote).
    return reply.code(404).send(reject(request, new CalicoError('driver/unknown-call', { call })));
  });
  app.setErrorHandler((error, request, reply) =>
    reply.code(500).send(reject(request, toCalicoError(error))),
  );
  return app;
}

/** Both spellings: Docker's network client reads `Err`, its IPAM client `Error` (on some versions `Err`). */
function failure(message: string): string {
  return JSON.stringify({ Err: message, Error: message });
}

function parseBody(body: unknown, takesBody: boolean): unknown {
  const text = typeof body === 'string' ? body.trim() : '';
  if (text === '') {
    if (takesBody) throw new CalicoError('driver/empty-body', {});
    return {};
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CalicoError(
      'driver/bad-request',
      { field: '', why: 'body is not JSON' },
      { cause: error },
    );
  }
}
