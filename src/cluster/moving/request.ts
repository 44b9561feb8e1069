import { request, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { CalicoError, describe } from '../../errors/error.ts';
import { jsonOrUndefined } from '../../model/json.ts';

/** The request to the daemon of this host to move its data, and itself, to another datastore. */

const datastoreTarget = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('sqlite'), file: z.string() }),
  z.object({
    kind: z.literal('etcd'),
    endpoints: z.array(z.string()).min(1).readonly(),
    caFile: z.exactOptional(z.string()),
    certFile: z.exactOptional(z.string()),
    keyFile: z.exactOptional(z.string()),
    username: z.exactOptional(z.string()),
    password: z.exactOptional(z.string()),
  }),
]);

export const moveRequest = z.object({
  /** Where to. */
  to: datastoreTarget,
  /** How the move reads and locks the present datastore, if the credential of the daemon does not suffice. */
  from: z.exactOptional(datastoreTarget),
  /** How the daemon connects afterwards, if not as the move does. */
  afterwards: z.exactOptional(datastoreTarget),
  /** Whether the target must be empty, or may serve other hosts; then its data has been checked for conflicts. */
  target: z.enum(['empty', 'shared']),
});

export type MoveRequest = z.infer<typeof moveRequest>;

const moveResult = z.object({
  /** Number of values written; 0 if the daemon already used the datastore. */
  moved: z.number(),
  /** Number of values that the datastore had already. */
  kept: z.number(),
  /** The datastore that the daemon uses now. */
  endpoint: z.string(),
});

export type MoveResult = z.infer<typeof moveResult>;

/** The path on the daemon's control socket; the response is a line of JSON for each event. */
export const movePath = '/datastore/move';

/**
 * Moves the data of this host and lets its daemon go over to it, while containers run and calls from Docker wait.
 * Returns at once if the daemon uses the datastore already; a move that was interrupted is resumed. Throws
 * `cli/not-running`, or `datastore/not-moved` with the sentence of the daemon; then the host continues as before.
 */
export function requestMove(
  socketPath: string,
  asked: MoveRequest,
  onProgress: (line: string) => void,
): Promise<MoveResult> {
  return runInDaemon(socketPath, { path: movePath, body: asked, result: moveResult }, onProgress);
}

const event = z.union([
  z.object({ progress: z.string() }),
  z.object({ error: z.string() }),
  z.object({ result: z.unknown() }),
]);

/** Runs a command of the daemon of this host. Throws `cli/not-running`, `datastore/not-moved`. */
export async function runInDaemon<Result>(
  socketPath: string,
  asked: { readonly path: string; readonly body: object; readonly result: z.ZodType<Result> },
  onProgress: (line: string) => void,
): Promise<Result> {
  for await (const line of linesOf(socketPath, asked)) {
    const one = event.safeParse(jsonOrUndefined(line)).data;
    // It has not sent all of its last line.
    if (one === undefined) break;
    if ('error' in one) throw new CalicoError('datastore/not-moved', { why: one.error });
    if ('result' in one) return asked.result.parse(one.result);
    onProgress(one.progress);
  }
  const why = 'it ended meanwhile';
  throw new CalicoError('cli/not-running', { socket: socketPath, why });
}

async function* linesOf(
  socketPath: string,
  { path, body }: { readonly path: string; readonly body: object },
): AsyncGenerator<string> {
  const asked = request({
    socketPath,
    path,
    method: 'POST',
    headers: { 'content-type': 'application/json' },
  });
  const notRunning = (error: unknown) => {
    const why = describe(error);
    return new CalicoError('cli/not-running', { socket: socketPath, why }, { cause: error });
  };
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      asked.once('response', resolve);
      asked.on('error', (error) => reject(notRunning(error)));
      asked.end(JSON.stringify(body));
    });
    // The daemon may end meanwhile; the lines then end without a result.
    response.on('error', () => undefined);
    yield* untilBroken(createInterface({ input: response }));
  } finally {
    asked.destroy();
  }
}

/** Yields lines until there are no more, or the connection breaks. */
async function* untilBroken(lines: AsyncIterable<string>): AsyncGenerator<string> {
  try {
    yield* lines;
  } catch {
    // What has arrived counts.
  }
}
