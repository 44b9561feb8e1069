import { createConnection } from 'node:net';
import { withDeadline } from '../async/deadline.ts';

/** The control socket of BIRD. Source: BIRD 2, doc/reply_codes and client/client.c. */

/** One line of a reply, with its code. */
export interface ReplyLine {
  readonly code: number;
  readonly text: string;
}

const answerMs = 5000;
const maxBytes = 64 << 20;
const firstErrorCode = 8000;

/**
 * Sends a command to a BIRD and returns the lines of its reply. Throws an error with BIRD's own words if it refuses the
 * command, and the socket's error if it does not run or does not answer within 5 s.
 */
export async function askBird(
  socketFile: string,
  command: string,
  signal: AbortSignal,
): Promise<readonly ReplyLine[]> {
  const limited = withDeadline(signal, answerMs);
  const { promise, resolve, reject } = Promise.withResolvers<readonly ReplyLine[]>();
  const socket = createConnection({ path: socketFile });
  const stop = () => socket.destroy(new Error(`BIRD did not answer "${command}" within 5 s`));
  limited.addEventListener('abort', stop, { once: true });
  const reply = new Reply();
  socket.setEncoding('utf8');
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('BIRD closed the connection')));
  socket.on('data', (text: string) => {
    try {
      for (const end of reply.take(text)) {
        if (end === 'greeting') socket.write(`${command}\n`);
        else resolve(reply.lines);
      }
    } catch (error) {
      reject(error);
    }
  });
  try {
    const lines = await promise;
    const refusal = lines.find(({ code }) => code >= firstErrorCode);
    if (refusal !== undefined) throw new Error(refusal.text.trim());
    return lines;
  } finally {
    limited.removeEventListener('abort', stop);
    socket.destroy();
  }
}

/**
 * Assembles the lines of BIRD's replies. A line has a code and `-` if more follow, or a space if it is the last one; a
 * line that begins with a space has the code of the one before.
 */
export class Reply {
  readonly lines: ReplyLine[] = [];
  #rest = '';
  #code = 0;
  #isGreeted = false;
  #bytes = 0;

  /** Takes received text; returns what ended with it: first the greeting, then the reply. */
  take(text: string): readonly ('greeting' | 'reply')[] {
    this.#bytes += text.length;
    if (this.#bytes > maxBytes) throw new Error('the reply of BIRD is too long');
    const ends: ('greeting' | 'reply')[] = [];
    const parts = `${this.#rest}${text}`.split('\n');
    this.#rest = parts.pop() ?? '';
    for (const line of parts) {
      const [, code, mark, said = ''] = /^(\d{4})([ -])(.*)$/.exec(line) ?? [];
      if (code === undefined) {
        this.lines.push({ code: this.#code, text: line.slice(1) });
        continue;
      }
      this.#code = Number(code);
      if (!this.#isGreeted) {
        this.#isGreeted = true;
        ends.push('greeting');
        continue;
      }
      this.lines.push({ code: this.#code, text: said });
      if (mark === ' ') ends.push('reply');
    }
    return ends;
  }
}
