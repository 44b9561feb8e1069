import { request } from 'node:http';
import { CalicoError, describe } from '../errors/error.ts';
import { statusReport, type StatusReport } from '../telemetry/status-report.ts';

const answerMs = 5000;

/** Requests the status of the running daemon. Throws `cli/not-running`. */
export async function fetchStatus(socket: string): Promise<StatusReport> {
  const report = await fetchReport(socket, '/status');
  try {
    return statusReport.parse(report);
  } catch (error) {
    throw new CalicoError('cli/not-running', { socket, why: describe(error) }, { cause: error });
  }
}

/** Requests another report of the running daemon, as JSON. Throws `cli/not-running`. */
export async function fetchReport(socket: string, path: string): Promise<unknown> {
  try {
    const { status, text } = await get(socket, path);
    if (status !== 200) throw new Error(`HTTP status ${status}: ${text}`);
    return JSON.parse(text);
  } catch (error) {
    throw new CalicoError('cli/not-running', { socket, why: describe(error) }, { cause: error });
  }
}

/** Reports whether a daemon responds. */
export async function isRunning(socket: string): Promise<boolean> {
  try {
    await get(socket, '/health');
    return true;
  } catch {
    return false;
  }
}

function get(
  socketPath: string,
  path: string,
): Promise<{ readonly status: number | undefined; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, timeout: answerMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString('utf8') }),
      );
    });
    asked.on('timeout', () => asked.destroy(new Error('no response within 5 s')));
    asked.on('error', reject);
    asked.end();
  });
}
