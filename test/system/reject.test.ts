import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import type { Backend } from '../../src/dataplane/iptables/tables.ts';
import { ToolRunner } from '../../src/dataplane/process.ts';
import { makeContainerNamespace } from '../lab/container-namespace.ts';
import { KernelAgent, profile } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const sh = (script: string) => execFileSync('sh', ['-ec', script], { encoding: 'utf8' });
const netns = (name: string) => `${namespace.name}-${name}`;

/** Containers of this host, with their Profiles. */
const containers = {
  client: { number: 1, profiles: ['open'] },
  quiet: { number: 2, profiles: ['closed'] },
  choosy: { number: 3, profiles: ['denying'] },
  quarantined: { number: 4, profiles: [] },
} as const;
type Name = keyof typeof containers;
const names: readonly Name[] = ['client', 'quiet', 'choosy', 'quarantined'];
const addressOf = {
  4: (name: Name) => `10.65.0.${containers[name].number}`,
  6: (name: Name) => `fd65::${containers[name].number}`,
} as const;

for (const backend of ['nft', 'legacy'] as const) {
  describe(`denied packets are rejected, iptables-${backend}`, { timeout: 600_000 }, () =>
    rejects(backend),
  );
}

function rejects(backend: Backend): void {
  let lab: KernelAgent;
  before(async () => {
    lab = await KernelAgent.start(backend, new ToolRunner(), 'reject');
    await lab.write((draft) => {
      draft.put('Profile', 'open', profile('open', [{ action: 'Allow' }]));
      draft.put('Profile', 'closed', profile('closed', []));
      const denial = { action: 'Deny', protocol: 'TCP' } as const;
      draft.put('Profile', 'denying', profile('denying', [denial]));
    });
    sh(`sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0`);
    for (const name of names) await container(name);
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    for (const name of names) sh(`ip netns del ${netns(name)}`);
    sh(`iptables-${backend} -F; ip6tables-${backend} -F`);
  });

  for (const family of [4, 6] as const) {
    for (const [from, to, counted] of [
      ['client', 'quiet', /^endpoint quiet: inbound: no matching rule$/],
      ['client', 'choosy', /^endpoint choosy: inbound: Profile denying, rule 1$/],
      ['quarantined', 'client', /^endpoint quarantined: outbound: no matching rule$/],
    ] as const) {
      test(`a connection is refused, and counted: ${from} to ${to}, IPv${family}`, async () => {
        const count = () =>
          lab
            .status()
            .drops.filter(({ container, rule }) => counted.test(`${container}: ${rule}`))
            .reduce((sum, { packets }) => sum + packets, 0);
        const before = count();
        assert.equal(connect(from, addressOf[family](to)), 'ECONNREFUSED');
        assert.ok(await eventually(() => count() > before), JSON.stringify(lab.status().drops));
      });
    }
  }

  /** What Join and Docker do. */
  async function container(name: Name): Promise<void> {
    const [v4, v6] = [`${addressOf[4](name)}/32`, `${addressOf[6](name)}/128`];
    const interfaceName = `cali${name}`;
    const profiles = [...containers[name].profiles];
    await lab.join({ name, networks: [v4, v6], profiles, interfaceName });
    makeContainerNamespace({
      name,
      netns: netns(name),
      interfaceName,
      address4: addressOf[4](name),
      address6: addressOf[6](name),
    });
  }
}

/**
 * Returns the error code of a TCP connection. Of a port without a listener the container would answer with the same
 * one: the caller checks by the counters who refused it.
 */
function connect(from: Name, to: string): string {
  const script = `require('node:net').connect(8080, '${to}').on('error', ({ code }) => console.log(code))`;
  return execFileSync('ip', ['netns', 'exec', netns(from), process.execPath, '-e', script], {
    encoding: 'utf8',
    timeout: 600_000,
  }).trim();
}
