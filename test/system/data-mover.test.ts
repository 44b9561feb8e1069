import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inBackground } from '../../src/async/background.fixture.ts';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import { loadSettings } from '../../src/config/load.ts';
import { DataMover } from '../../src/daemon/data-mover.ts';
import { bootstrap } from '../../src/datastore/bootstrap.ts';
import { MovableDatastore } from '../../src/datastore/movable-datastore.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { isCalicoError } from '../../src/errors/error.ts';
import { createStamp } from '../../src/model/stamp.ts';
import { createLogger } from '../../src/telemetry/log.ts';
import { startEtcd, type Etcd } from '../lab/etcd.ts';
import { makeTemporaryFolder, type TemporaryFolder } from '../lab/temporary-folder.ts';

const signal = AbortSignal.timeout(120_000);
const now = () => new Date();
/** As long as the only member of a cluster is away when it restarts, in milliseconds. */
const restartMs = 2000;
const none = () => Promise.resolve();

/** The daemon's part in `cluster init`, `join` and `leave`, with a real etcd. */
describe('the daemon moves its data', { timeout: 120_000 }, () => {
  let etcd: Etcd;
  let folder: TemporaryFolder;
  before(async () => {
    folder = makeTemporaryFolder('calico-mover-');
    etcd = await startEtcd();
  });
  after(async () => {
    await etcd?.[Symbol.asyncDispose]();
    await folder?.[Symbol.asyncDispose]();
  });

  test('the only member of etcd restarts: a move waits for it, and a call from Docker does not', async () => {
    const file = join(folder.path, 'calico.db');
    const environment = { CALICO_DATASTORE_FILE: file };
    const { settings } = loadSettings(environment, join(folder.path, 'none'));
    assert.equal(settings.datastoreFile, file);
    const datastore = new MovableDatastore(await openDatastore({ kind: 'sqlite', file }));
    const mirror = new LiveMirror(datastore);
    await using following = inBackground((stop) => mirror.run(stop));
    const writer = new GroupWriter(mirror);
    const stamp = createStamp({ now, uuid: randomUUID });
    await mirror.reached(0n, signal);
    await writer.write((draft) => bootstrap(draft, { nodeName: 'host-1', stamp }), signal);
    const log = createLogger({ level: 'error', write: () => undefined, now });
    const presence = { leave: none, renew: none, claimAgain: none };
    const common = { settings, node: 'host-1', now, signal, log, stamp };
    const mover = new DataMover(common, { datastore, mirror, writer, presence });
    const request = {
      to: { kind: 'etcd' as const, endpoints: [etcd.endpoint] },
      target: 'empty' as const,
    };

    await etcd.stop();
    const moving = mover.move(request, () => undefined);
    // The command was killed and is run again.
    const again = mover.move(request, () => undefined);
    await sleep(restartMs);
    await etcd.start();
    const { moved, endpoint } = await moving;
    assert.ok(moved > 0);
    assert.equal(endpoint, etcd.endpoint);
    assert.deepEqual(await again, { moved: 0, kept: 0, endpoint });
    await writer.write((draft) => draft.remove('Tier', 'default'), signal);

    await etcd.stop();
    const begun = performance.now();
    await assert.rejects(datastore.read(['/calico/x'], signal), (error) =>
      isCalicoError(error, 'datastore/unavailable'),
    );
    assert.ok(performance.now() - begun < restartMs, 'it does not wait for a restart');
    await following.stop();
    await datastore.close();
  });
});
