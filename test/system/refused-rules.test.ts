import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { IptablesTables, type Backend } from '../../src/dataplane/iptables/tables.ts';
import { ToolRunner } from '../../src/dataplane/process.ts';
import type { IpFamily } from '../../src/ip/address.ts';
import { dropsIfRefused, type Chain, type Rule } from '../../src/render/iptables/rule.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const signal = AbortSignal.timeout(600_000);

/** A rule that the tool refuses, for a set that is not there; and one that only the kernel does. */
const bad: Readonly<Record<string, Rule>> = {
  'by the tool': {
    matches: [{ kind: 'sourceSet', set: 'no-such-set' }],
    action: { kind: 'accept' },
  },
  // `-m icmp` without `-p icmp`.
  'by the kernel': {
    matches: [{ kind: 'icmp', family: 4, type: 8 }],
    action: { kind: 'accept' },
  },
};

for (const backend of ['nft', 'legacy'] as const) {
  for (const family of [4, 6] as const) {
    describe(`iptables-${backend}, IPv${family}`, () => isolates(backend, family));
  }
}

function isolates(backend: Backend, family: IpFamily): void {
  const runner = new ToolRunner();
  const tool = `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}`;
  const listing = (chain: string) =>
    execFileSync(tool, ['-S', chain], { encoding: 'utf8' }).trim().split('\n').slice(1);
  const tables = new IptablesTables(runner, { family, backend });
  const refusedBy = (name: string): Rule => {
    const rule = bad[name] ?? assert.fail();
    return {
      ...rule,
      matches: rule.matches.map((match) => (match.kind === 'icmp' ? { ...match, family } : match)),
    };
  };

  for (const [turn, by] of Object.keys(bad).entries()) {
    const first = 20_000 * turn + 1;
    test(`one rule of 10,000 that is refused ${by} is found in 20 commits; what it is in denies, all else is written`, async () => {
      tables.setChain('filter', policy('cali-pri-old', [accepting(1)]));
      for (let policies = 0; policies < 100; policies++) {
        const rules = Array.from({ length: 100 }, (_, n) => accepting(first + 100 * policies + n));
        if (policies === 61) rules[37] = refusedBy(by);
        tables.setChain('filter', policy(`cali-pri-${policies}`, rules));
      }
      tables.removeChain('filter', 'cali-pri-old');
      tables.setHook('filter', {
        chain: 'FORWARD',
        inserted: [{ matches: [], action: { kind: 'jump', chain: 'cali-pri-61' } }],
        appended: [],
      });
      await tables.prepare(signal);
      const before = runner.forks;
      await tables.write(signal);
      const commits = runner.forks - before;
      assert.ok(commits <= 20, `${commits} commits`);
      const [failure, ...others] = tables.failures();
      assert.equal(failure?.what, `cali-pri-61 for people, IPv${family}`);
      assert.match(failure.why, by === 'by the tool' ? /no-such-set/ : /icmp/);
      assert.deepEqual(others, []);
      assert.equal(listing('cali-pri-60').length, 100);
      assert.equal(listing('cali-pri-62').length, 100);
      assert.match(listing('cali-pri-61').join(), /^\S+ cali-pri-61 [^,]*-j DROP$/);
      assert.match(listing('FORWARD')[0] ?? '', /-j cali-pri-61$/);
      assert.ok(!saved().includes('cali-trial'));
    });

    test(`it is tried again when it changes, or when asked to: refused ${by}`, async () => {
      await tables.apply(signal);
      const before = runner.forks;
      const same = Array.from({ length: 100 }, (_, n) => accepting(first + 6100 + n));
      same[37] = refusedBy(by);
      tables.setChain('filter', policy('cali-pri-61', same));
      await tables.apply(signal);
      assert.equal(runner.forks, before, 'what is refused already is not tried again');
      tables.setChain('filter', policy('cali-pri-5', [accepting(5)]));
      await tables.apply(signal);
      assert.equal(runner.forks, before + 1, 'others change meanwhile at their usual cost');
      tables.retryRefused();
      await tables.apply(signal);
      assert.equal(tables.failures().length, 1);
      assert.ok(runner.forks > before + 2);
      tables.setChain('filter', policy('cali-pri-61', [accepting(1)]));
      await tables.apply(signal);
      assert.deepEqual(tables.failures(), []);
      assert.match(listing('cali-pri-61').join(), /-j ACCEPT$/);
    });
  }

  test('several policies that are refused are all found', async () => {
    for (const policies of [1, 2, 50, 98, 99]) {
      const rules = [accepting(1), refusedBy('by the kernel'), accepting(2)];
      tables.setChain('filter', policy(`cali-pri-${policies}`, rules));
    }
    await tables.apply(signal);
    assert.equal(tables.failures().length, 5);
    for (const policies of [1, 99]) {
      assert.match(listing(`cali-pri-${policies}`).join(), /-j DROP$/);
    }
  });

  test('a chain that somebody else still leads to stays empty, and holds nothing up', async () => {
    execFileSync(tool, ['-A', 'OUTPUT', '-p', '47', '-j', 'cali-pri-3']);
    for (const policies of [3, 4]) tables.removeChain('filter', `cali-pri-${policies}`);
    for (const policies of [1, 2, 50, 98, 99]) {
      tables.setChain('filter', policy(`cali-pri-${policies}`, [accepting(7)]));
    }
    await tables.apply(signal);
    assert.deepEqual(
      tables.failures().map(({ what }) => what),
      ['removal of chain cali-pri-3 (filter)'],
    );
    assert.deepEqual(listing('cali-pri-3'), []);
    assert.ok(!saved().includes(':cali-pri-4 '));
    assert.match(listing('cali-pri-50').join(), /-j ACCEPT$/);
    execFileSync(tool, ['-D', 'OUTPUT', '-p', '47', '-j', 'cali-pri-3']);
    tables.retryRefused();
    await tables.apply(signal);
    assert.deepEqual(tables.failures(), []);
    assert.ok(!saved().includes(':cali-pri-3 '));
  });

  test('a chain that every packet passes is loud: it is thrown each time, and what else there is, is written', async () => {
    tables.setChain('filter', { name: 'cali-FORWARD', rules: [refusedBy('by the kernel')] });
    tables.setChain('filter', policy('cali-pri-6', [accepting(6)]));
    for (const _ of [1, 2]) {
      await assert.rejects(tables.apply(signal), { code: 'kernel/tool-failed' });
      assert.equal(listing('cali-pri-6').length, 1);
    }
    tables.setChain('filter', { name: 'cali-FORWARD', rules: [] });
    await tables.apply(signal);
    assert.deepEqual(tables.failures(), []);
    await new IptablesTables(runner, { family, backend }).apply(signal);
    assert.ok(!saved().includes('cali'));
  });

  function saved(): string {
    return execFileSync(`${tool}-save`, { encoding: 'utf8' });
  }
}

function policy(name: string, rules: readonly Rule[]): Chain {
  return { name, rules, ifRefused: dropsIfRefused(`${name} for people`) };
}

function accepting(port: number): Rule {
  return {
    matches: [
      { kind: 'protocol', protocol: 6 },
      { kind: 'destinationPorts', ports: [{ first: port, last: port }] },
    ],
    action: { kind: 'accept' },
  };
}
