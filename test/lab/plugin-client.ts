import { request } from 'node:http';

/** The response of a plugin: the status and the JSON object. */
export interface PluginAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  /** The body as it came. */
  readonly text: string;
}

/**
 * One call of Docker's plugin protocol, as dockerd sends it: POST on a Unix socket with an empty Host header
 * (20.10) and no content type. Without a body it is what Docker sends when it repeats a broken call.
 */
export function callPlugin(
  socketPath: string,
  method: string,
  body?: unknown,
): Promise<PluginAnswer> {
  const text = body === undefined ? '' : `${JSON.stringify(body)}\n`;
  const headers = {
    Host: '',
    Accept: 'application/vnd.docker.plugins.v1.2+json',
    'Content-Length': String(Buffer.byteLength(text)),
  };
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path: `/${method}`, method: 'POST', agent: false, headers, timeout: 30_000 },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString();
          resolve({ status: response.statusCode ?? 0, text: answer, body: objectOf(answer) });
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`${method}: no answer`)));
    asked.on('error', reject);
    asked.end(text);
  });
}

/** Sends the same call and closes the connection before the response. */
export function breakOffCall(socketPath: string, method: string, body: unknown): Promise<void> {
  const text = JSON.stringify(body);
  const headers = { Host: '', 'Content-Length': String(Buffer.byteLength(text)) };
  return new Promise((resolve) => {
    const asked = request({
      socketPath,
      path: `/${method}`,
      method: 'POST',
      agent: false,
      headers,
    });
    asked.on('error', () => resolve());
    asked.on('response', () => resolve());
    asked.end(text, () => setImmediate(() => asked.destroy()));
  });
}

/** Returns the response of a Unix socket to GET. */
export function getText(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, agent: false, timeout: 30_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks).toString()));
    });
    asked.on('timeout', () => asked.destroy(new Error(`${path}: no answer`)));
    asked.on('error', reject);
    asked.end();
  });
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  const value: unknown = JSON.parse(text);
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
