import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { ToolRunner, type ToolOutput } from '../../src/dataplane/process.ts';
import type { PolicyRule } from '../../src/model/policy-rule.ts';
import { KernelAgent, profile } from '../lab/kernel-agent.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

/** iptables-restore as it would be if it could not say one of the things that we write: port 6666. */
class FaultyRunner extends ToolRunner {
  override run(
    argv: readonly string[],
    options: { readonly input?: string; readonly debianPackage: string },
    signal: AbortSignal,
  ): Promise<ToolOutput> {
    return super.run(argv, { ...options, input: withFault(options.input ?? '') }, signal);
  }

  override feed(
    argv: readonly string[],
    options: { readonly input: string; readonly debianPackage: string },
    signal: AbortSignal,
  ): Promise<void> {
    return super.feed(argv, { ...options, input: withFault(options.input) }, signal);
  }
}

function withFault(input: string): string {
  return input.replaceAll('--destination-ports 6666', '--destination-ports 6666 --no-such-option');
}

const toPort = (port: number): PolicyRule => ({
  action: 'Allow',
  protocol: 'TCP',
  destination: { ports: [port] },
});

for (const backend of ['nft', 'legacy'] as const) {
  describe(`a policy that iptables-${backend} refuses`, { timeout: 600_000 }, () =>
    holdsNothingUp(backend),
  );
}

function holdsNothingUp(backend: Backend): void {
  const runner = new FaultyRunner();
  let lab: KernelAgent;
  before(async () => {
    lab = await KernelAgent.start(backend, runner);
    await put('web', [toPort(80)]);
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    execFileSync(`iptables-${backend}`, ['-F']);
  });

  const put = async (name: string, ingress: readonly PolicyRule[]): Promise<void> => {
    await lab.write((draft) => draft.put('Profile', name, profile(name, ingress)));
  };
  const chain = (name: string) =>
    execFileSync(`iptables-${backend}`, ['-S', name], { encoding: 'utf8' });
  const failures = () => lab.agent.health.failures.map(({ what }) => what);
  const said = (text: string) => lab.log.filter((line) => line.includes(text)).length;
  const facts = (number: number, name: string) => ({
    name: `${name}${number}`,
    networks: [`10.65.0.${number}/32`],
    profiles: [name],
    interfaceName: `cali${backend.slice(0, 1)}${name}${number}`,
  });

  test('containers of it and of others start, it denies, the others change, and it is named once', async () => {
    await put('bad', [toPort(6666)]);
    await lab.join(facts(1, 'bad'));
    await lab.join(facts(2, 'web'));
    const [failure, ...others] = failures();
    assert.match(failure ?? '', /^rules of the Profile bad, inbound .*, IPv4$/);
    const { status, text } = await lab.statusCommand();
    assert.equal(status, 1);
    assert.match(text, /^calico-cnm 0 on here, up since \S+: degraded$/m);
    assert.match(
      text,
      /^ +FAIL +dataplane: rules of the Profile bad, inbound [^:]*, IPv4: .*6666.*\n +Change or delete the object\. The daemon retries automatically; everything else is programmed\.$/m,
    );
    assert.equal(text.match(/^ +FAIL/gm)?.length, 1, text);
    assert.deepEqual(others, []);
    assert.match(chain('cali-pri-bad'), /-A cali-pri-bad [^\n]*-j DROP\n$/);
    await put('web', [toPort(443)]);
    await lab.settled();
    assert.match(chain('cali-pri-web'), /443/);
    for (const number of [3, 4]) {
      await put('web', [toPort(number)]);
      await lab.settled();
    }
    await lab.join(facts(5, 'bad'));
    assert.equal(said('rules of the Profile bad'), 1);
    assert.notEqual(lab.agent.health.inSyncSince, undefined);
  });

  test('a change of others costs one process, and one of its own mends it', async () => {
    await lab.settled();
    const before = runner.forks;
    await put('web', [toPort(8080)]);
    await lab.settled();
    // Legacy tables are read again after our own writes.
    const looks = backend === 'legacy' ? 4 : 1;
    assert.ok(runner.forks - before <= 1 + looks, `${runner.forks - before} processes`);
    await put('bad', [toPort(6667)]);
    await lab.settled();
    assert.deepEqual(failures(), []);
    assert.equal((await lab.statusCommand()).status, 0);
    assert.match(chain('cali-pri-bad'), /6667/);
    assert.equal(said('rules of the Profile bad'), 2, 'the log says that it is well again');
  });

  test('a rule that denies and is refused lets nobody past it', async () => {
    await put('bad', [{ ...toPort(6666), action: 'Deny' }, { action: 'Allow' }]);
    await lab.settled();
    assert.equal(failures().length, 1);
    assert.match(chain('cali-pri-bad'), /-A cali-pri-bad [^\n]*-j DROP\n$/);
  });
}
