import { request } from 'node:http';

/** The Docker API, for frequent requests, where starting the client would be most of the work. */
export class EngineApi {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Returns the parsed response to a request; throws Docker's error message. */
  async call(method: 'DELETE' | 'GET' | 'POST', path: string, body?: unknown): Promise<unknown> {
    const { status, text } = await this.#send(method, path, body);
    const answer: unknown = text === '' ? undefined : JSON.parse(text);
    if (status < 400) return answer;
    const message =
      typeof answer === 'object' && answer !== null && 'message' in answer ? answer.message : text;
    throw new Error(`${method} ${path}: ${String(message)}`);
  }

  #send(
    method: string,
    path: string,
    body: unknown,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const sent = body === undefined ? '' : JSON.stringify(body);
    const headers = { 'Content-Type': 'application/json', 'Content-Length': String(sent.length) };
    const options = { socketPath: this.#socketPath, method, path, headers, agent: false } as const;
    return new Promise((resolve, reject) => {
      const asked = request({ ...options, timeout: 120_000 }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
        });
      });
      asked.on('timeout', () => asked.destroy(new Error(`${method} ${path}: no answer`)));
      asked.on('error', reject);
      asked.end(sent);
    });
  }
}
