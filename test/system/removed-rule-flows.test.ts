import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import type { BackgroundProcess } from '../lab/process.ts';
import { words } from '../lab/words.ts';

const talk = [`${checkout}/node_modules/.bin/node`, `${checkout}/test/lab/talk.ts`];
const router = ['ip', 'netns', 'exec', 'router'];

/** A client that sends a datagram every 0.2 s, always from one socket: one connection. */
class Connection {
  readonly #process: BackgroundProcess;

  constructor(process: BackgroundProcess) {
    this.#process = process;
  }

  /** The number of responses so far. */
  get responses(): number {
    return this.#process.output().trim().split('\n').filter(Boolean).length;
  }

  close(): Promise<unknown> {
    return this.#process.end('SIGKILL');
  }
}

/** Changes that remove what allows the connections of `outside` and of the router to `app`. */
const changes = [
  { name: 'a removed rule', argv: words`profile shop rule remove inbound allow udp to ports 80` },
  {
    name: 'Profiles of a container that are replaced',
    argv: words`container app profile set none`,
  },
  {
    name: 'a Profile that is removed from a container',
    argv: words`container app profile remove shop`,
  },
  { name: 'a removed Profile', argv: words`profile remove shop --no-check` },
] as const;

for (const setting of ['end', 'keep'] as const) {
  describe(`CALICO_REMOVED_RULE_FLOWS=${setting}`, { timeout: 600_000 }, () => {
    let lab: NetworkLab;
    before(async () => {
      lab = await startLab(
        { engine: '28.5', backend: 'nft', datastore: 'sqlite' },
        setting === 'keep' ? {} : { CALICO_REMOVED_RULE_FLOWS: setting },
      );
      await lab.network('web', '-o', 'published=policy');
      await lab.network('other');
      await lab.calico(...words`profile add none`);
      await lab.client('outside', '--net', 'other');
    });
    after(async () => lab?.[Symbol.asyncDispose]());
    afterEach(async () => lab.docker('rm', '-f', 'app'));

    const enter = async (container: string): Promise<readonly string[]> => {
      const pid = await lab.docker('inspect', '-f', '{{.State.Pid}}', container);
      return ['nsenter', `--net=/proc/${pid}/ns/net`];
    };
    const connect = (from: readonly string[], address: string, port: number) =>
      new Connection(lab.host.spawn([...from, ...talk, 'go-on', address, String(port)]));

    // By default all changes are alike: no connection is looked at.
    for (const { name, argv } of setting === 'end' ? changes : changes.slice(0, 1)) {
      const what =
        setting === 'end' ? 'ends the connections that it allowed' : 'ends no connection';
      test(`${name} ${what}, also one by a published port`, async () => {
        await lab.calicoResult(...words`profile add shop`);
        await lab.calico(...words`profile shop rule add inbound allow udp to ports 80`);
        const label = words`--label org.projectcalico.profile=shop`;
        await lab.client('app', ...words`--net web -p 8080:80/udp ${label}`);
        lab.host.spawn([...(await enter('app')), ...talk, 'serve', '80', 'app']);
        const outside = await enter('outside');
        const connections = [
          connect(outside, await lab.address('app', 'web'), 80),
          connect(router, uplinkAddresses.host, 8080),
        ];
        const respond = async (more: number) => {
          const counts = connections.map(({ responses }) => responses + more);
          const areThere = async () =>
            connections.every(({ responses }, index) => responses >= (counts[index] ?? 0));
          assert.ok(await lab.eventually(areThere));
        };
        await respond(3);
        const dropped = await lab.dropped('app');
        await lab.calico(...argv);
        if (setting === 'end') {
          // The clients continue to send: what they send now is dropped, twice in 0.2 s.
          const areDropped = async () => (await lab.dropped('app')) >= dropped + 10;
          assert.ok(await lab.eventually(areDropped), 'packets of both connections are dropped');
          const counts = connections.map(({ responses }) => responses);
          const later = await lab.dropped('app');
          assert.ok(await lab.eventually(async () => (await lab.dropped('app')) >= later + 10));
          assert.deepEqual(
            connections.map(({ responses }) => responses),
            counts,
          );
        } else {
          const asks = words`${outside} ${talk} ask udp ${await lab.address('app', 'web')} 80`;
          const isRefused = async () => (await lab.host.exec(asks)).stdout === '';
          assert.ok(await lab.eventually(isRefused), 'a new connection is dropped');
          await respond(10);
        }
        for (const connection of connections) await connection.close();
      });
    }
  });
}
