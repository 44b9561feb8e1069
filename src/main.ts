import { text } from 'node:stream/consumers';
import { runCommand } from './cli/program.ts';
import { settingsFile } from './config/load.ts';
import { runDaemon } from './daemon.ts';

// What a library should do otherwise is no news for those who run a command.
process.noDeprecation = true;

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => stopping.abort());
}

process.exitCode = await runCommand(process.argv.slice(2), {
  environment: process.env,
  settingsFile,
  out: (written) => process.stdout.write(written),
  error: (written) => process.stderr.write(written),
  readInput: () => text(process.stdin),
  run: (settings) => runDaemon(settings, stopping.signal),
});
