import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { AddressSets } from '../../src/dataplane/address-sets.ts';
import { renderDesired, scriptLines } from '../../src/dataplane/iptables/script.ts';
import { openKernelSockets } from '../../src/dataplane/kernel-sockets.ts';
import { ReadyTool } from '../../src/dataplane/ready-tool.ts';
import { PolicyEngine } from '../../src/profiles/policy-engine.ts';
import { renderHostRules } from '../../src/render/iptables/host-rules.ts';
import { IptablesPolicies } from '../../src/render/iptables/policies.ts';
import type { Chain } from '../../src/render/iptables/rule.ts';
import { hostRules } from '../../src/ruleset/host-rules.ts';
import { natSets } from '../../src/ruleset/names.ts';
import { enterNewNamespace } from '../../test/lab/namespace.ts';
import { percentile, table } from '../measure.ts';
import { active, endpoint, everyone, node, numberedPolicy } from './cluster.ts';

/**
 * Measures what a waiting `iptables-restore` and the kernel take for a changed rule of the policy of all endpoints, next
 * to the chains of the policies of `change.ts`: as CPU time of the tool, in which the kernel works. Variants show what it
 * is made of. `restore.ts [legacy|nft] [POLICIES]`.
 */

const backend = process.argv[2] === 'nft' ? 'nft' : 'legacy';
const most = Number(process.argv[3] ?? active);
const rounds = 60;

const namespace = enterNewNamespace();
const sockets = openKernelSockets();
process.once('exit', () => {
  sockets.close();
  namespace[Symbol.dispose]();
});
const sets = new AddressSets(sockets.ipset);
sets.resync();

const variants: Readonly<Record<string, (line: string) => string>> = {
  'the rules': (line) => line,
  'without comments': (line) => line.replaceAll(/-m comment --comment "[^"]*" /g, ''),
  'without sets': (line) =>
    line
      .replaceAll(/-m set (?:! )?--match-set \S+ \S+ (?:! --update-counters )?/g, '')
      .replace(/--jump SET .*/, '--jump RETURN'),
};
const rows: string[][] = [];
for (const [name, change] of Object.entries(variants)) {
  for (const policies of name === 'the rules' ? [most, most >> 1, 2] : [most]) {
    rows.push([`${policies} policies in use, ${name}`, ...(await measure(policies, change))]);
  }
}
process.stdout.write(
  table([`iptables-${backend}`, 'chains', 'rules', 'CPU time: p25, p50 (ms)'], rows),
);
process.exit(0);

async function measure(
  policies: number,
  change: (line: string) => string,
): Promise<readonly string[]> {
  const chains = new Map<string, Chain>();
  const dirty = new Set<string>();
  const setChain = (chain: Chain): void => {
    chains.set(chain.name, chain);
    dirty.add(chain.name);
  };
  const rules = new IptablesPolicies([4], {
    setChain: (_family, chain) => setChain(chain),
    removeChain: (_family, chain) => void chains.delete(chain),
    addSet: (spec) => sets.setDesired(spec),
    removeSet: () => undefined,
    addMember: (set, member) => sets.addMember(set, member),
    removeMember: (set, member) => sets.removeMember(set, member),
  });
  for (const set of Object.values(natSets)) {
    sets.setDesired({ name: set(4), family: 4, type: 'net', countsPackets: false });
  }
  const host = renderHostRules(
    hostRules(4, { endpointToHostAction: 'Return', guardsForwarding: true }),
    { family: 4, denyAction: 'drop' },
  );
  for (const one of host) if (one.table === 'filter') one.chains.forEach(setChain);
  rules.start();
  const engine = new PolicyEngine({ node, families: [4], output: rules });
  engine.collect();
  engine.setProfile('open', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'open' },
    spec: { egress: [{ action: 'Allow' }] },
  });
  for (let n = 0; n < policies - 1; n++) {
    engine.setPolicy('GlobalNetworkPolicy', `p-${n}`, numberedPolicy(n));
    engine.setEndpoint(`libnetwork/${node}-${n}`, endpoint(n));
  }
  const script = () => {
    sets.applyAdditions();
    const filled = [...dirty].flatMap((name) => {
      const chain = chains.get(name);
      return chain === undefined ? [] : [{ ...renderDesired(chain), name, isNew: true }];
    });
    dirty.clear();
    return scriptLines({ filled, hooked: [], removed: [] }).map(change);
  };
  const open = (isOpen: boolean) => {
    engine.setPolicy('GlobalNetworkPolicy', 'everyone', everyone(isOpen));
    engine.beforeRound();
    engine.moveEndpoints();
    return script();
  };
  const argv = ['--noflush', '--wait', '10', '--verbose'];
  const child = spawn(`iptables-${backend}-restore`, argv, { stdio: 'pipe' });
  const ended = once(child, 'close').then(([status]) => `status ${status}`);
  const tool = new ReadyTool(child, ended);
  const restore = async (lines: readonly string[]) => {
    const end = await tool.take(`*filter\n${lines.join('\n')}\nCOMMIT\n`, 60_000);
    if (end !== undefined) throw new Error(end.stderr);
  };
  const processorMs = () =>
    Number(readFileSync(`/proc/${child.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  const first = open(false);
  await restore(first);
  const times: number[] = [];
  for (let n = 0; n < rounds; n++) {
    const lines = open(n % 2 === 0);
    const before = processorMs();
    await restore(lines);
    // It closes its socket after its answer.
    await sleep(30);
    times.push(processorMs() - before);
  }
  tool.kill();
  for (const what of ['-F', '-X']) execFileSync(`iptables-${backend}`, [what]);
  const count = first.filter((line) => line.startsWith('-A')).length;
  return [
    String(first.length - count),
    String(count),
    [0.25, 0.5].map((share) => percentile(times, share).toFixed(1)).join(', '),
  ];
}
