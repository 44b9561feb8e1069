import { after, before, describe } from 'node:test';
import { ownersContract } from '../../src/cli/address-owners.fixture.ts';
import { openEtcdStore } from '../../src/datastore/etcd-store.ts';
import { startEtcd, type Etcd } from '../lab/etcd.ts';

describe('address owners on etcd', () => {
  let etcd: Etcd;
  before(async () => {
    etcd = await startEtcd();
  });
  after(() => etcd[Symbol.asyncDispose]());

  ownersContract({
    open: () => openEtcdStore({ endpoints: [etcd.endpoint] }),
    empty: async () => {
      etcd.etcdctl('del', '--prefix', '/');
    },
    runs: 15,
  });
});
