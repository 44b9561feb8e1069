import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CalicoError } from '../errors/error.ts';
import { Bird } from './bird.ts';

const signal = AbortSignal.timeout(60_000);

/** Stands in for BIRD: its check refuses texts with `wrong`, and its socket answers while it runs. */
class FakeBird implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'bird-'));
  readonly calls: string[] = [];
  #server: Server | undefined;

  readonly runner = {
    run: async (argv: readonly string[]) => {
      const file = argv[argv.indexOf('-c') + 1] ?? '';
      const isCheck = argv.includes('-p');
      this.calls.push(isCheck ? 'check' : argv.includes('-R') ? 'start, recovering' : 'start');
      if (isCheck && readFileSync(file, 'utf8').includes('wrong')) {
        const why = `bird: ${file}:3:7 syntax error`;
        throw new CalicoError('kernel/tool-failed', { tool: 'bird', status: 'status 1', why });
      }
      if (!isCheck) await this.#start(argv[argv.indexOf('-P') + 1] ?? '');
      return { stdout: '', stderr: '' };
    },
  };

  async #start(pidFile: string): Promise<void> {
    writeFileSync(pidFile, '1\n');
    this.#server = createServer((socket) => {
      socket.write('0001 BIRD ready.\n');
      socket.on('data', (data) => {
        const command = String(data).trim();
        if (command !== 'show status') this.calls.push(command);
        socket.write(command === 'configure' ? '0003 Reconfigured\n' : '0013 Daemon is up\n');
      });
      socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => {
      this.#server?.listen(join(this.folder, 'bird.ctl'), resolve);
    });
  }

  /** As by kill -9: the files stay. */
  async die(): Promise<void> {
    await new Promise((resolve) => this.#server?.close(resolve));
    this.#server = undefined;
  }

  /** Returns the calls since the last time. */
  said(): readonly string[] {
    return this.calls.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server !== undefined) await this.die();
    rmSync(this.folder, { recursive: true });
  }
}

test('a configuration is checked before it is used; the same one does nothing, a refused one changes nothing', async () => {
  await using fake = new FakeBird();
  const bird = new Bird(fake.folder, fake.runner);
  const file = join(fake.folder, 'bird.conf');
  assert.equal(await bird.states(signal), undefined);
  await assert.rejects(bird.apply('wrong', signal), { code: 'bgp/config-refused' });
  assert.equal(existsSync(file), false);
  assert.deepEqual(fake.said(), ['check']);
  assert.equal(await bird.apply('first', signal), 'started');
  assert.deepEqual(fake.said(), ['check', 'start']);
  assert.equal(statSync(file).mode & 0o777, 0o600, 'it has passwords');
  assert.equal(await bird.apply('first', signal), 'unchanged');
  assert.deepEqual(fake.said(), []);
  assert.equal(await bird.apply('second', signal), 'configured');
  assert.deepEqual(fake.said(), ['check', 'configure']);
  await assert.rejects(bird.apply('wrong', signal), /line 3:7 syntax error/);
  assert.equal(readFileSync(file, 'utf8'), 'second');
  // A restarted daemon finds it running.
  assert.equal(await new Bird(fake.folder, fake.runner).apply('second', signal), 'unchanged');
});

test('a BIRD that died is started again, and recovers what it had', async () => {
  await using fake = new FakeBird();
  const bird = new Bird(fake.folder, fake.runner);
  await bird.apply('first', signal);
  await fake.die();
  fake.said();
  assert.equal(await bird.apply('first', signal), 'started');
  assert.deepEqual(fake.said(), ['start, recovering']);
});
