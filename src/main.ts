import { text } from 'node:stream/consumers';
import { settingsFile } from './config/load.ts';
import { exitImmediately, exitOnUncaught } from './daemon/process-exit.ts';
import { startDaemon } from './daemon/start-daemon.ts';

// What Node thinks of how a library uses it is no news for those who run a command; the daemon logs it.
process.removeAllListeners('warning');

const argv = process.argv.slice(2);
const error = (written: string) => process.stderr.write(written);
/** Only the daemon ends in its own time: a command that is interrupted ends at once. */
const run = () => {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => stopping.abort());
  }
  return startDaemon({ environment: process.env, signal: stopping.signal, error });
};

if (argv.length === 1 && argv[0] === 'run') {
  exitOnUncaught(error);
  // Whatever is still open, or under way on another thread, must not keep a daemon that has ended.
  exitImmediately(await run());
} else {
  // The commands are loaded when one of them is wanted: a daemon starts faster without.
  const { runCommand } = await import('./cli/program.ts');
  const status = await runCommand(argv, {
    environment: process.env,
    settingsFile,
    out: (written) => process.stdout.write(written),
    error,
    readInput: () => text(process.stdin),
    run,
  });
  // An unfinished TLS handshake with a member of etcd that has stalled would keep a command that is done, and so may
  // Node's own exit, which joins V8's threads.
  for (const output of [process.stdout, process.stderr]) {
    await new Promise((resolve) => output.write('', resolve));
  }
  exitImmediately(status);
}
