import type { AuthClient, IPermission } from 'etcd3';
import { endOfPrefix } from '../datastore/etcd-messages.ts';
import { describe } from '../errors/error.ts';
import {
  adminUser,
  endpointsInNamespace,
  etcdUserOf,
  isOfEndpoints,
  moveRoleOf,
  movePermissions,
  nodePermissions,
  type Permission,
} from './roles.ts';

/**
 * Users and roles in etcd. A user has no password: etcd recognizes it by the common name of its certificate. Every
 * function may be repeated. They throw the errors of etcd.
 */

/** Creates the administrator and turns authentication on: from then on etcd rejects every request without a user. */
export async function enableAuth(auth: AuthClient): Promise<void> {
  await addUser(auth, adminUser);
  await auth.userGrantRole({ user: adminUser, role: adminUser });
  await auth.authEnable();
}

/**
 * Gives a node its user and its role, with exactly the permissions of this version, and those that it has for endpoints
 * in further namespaces.
 */
export async function putNodeUser(auth: AuthClient, node: string): Promise<void> {
  const name = etcdUserOf(node);
  await putRole(auth, name, nodePermissions(node), (prefix) => isOfEndpoints(node, prefix));
  await addUser(auth, name);
  await auth.userGrantRole({ user: name, role: name });
}

/** Permits a node to write its endpoints in a namespace; does nothing if it has no role. */
export async function permitNamespace(
  auth: AuthClient,
  node: string,
  namespace: string,
): Promise<void> {
  const role = etcdUserOf(node);
  const perm = toEtcd({ ...endpointsInNamespace(node, namespace), access: 'write' });
  await unlessMissing(
    (async () => {
      const { perm: present } = await auth.roleGet({ role });
      if (present.some((one) => isSame(one, perm))) return;
      await auth.roleGrantPermission({ name: role, perm });
    })(),
  );
}

/** Gives the user of a node the additional role with which it moves its own datastore into the cluster. */
export async function putMoveRole(auth: AuthClient, node: string): Promise<void> {
  const role = moveRoleOf(node);
  await putRole(auth, role, movePermissions(node));
  await auth.userGrantRole({ user: etcdUserOf(node), role });
}

/** Takes that role away once the move is done. */
export async function removeMoveRole(auth: AuthClient, node: string): Promise<void> {
  await unlessMissing(auth.roleDelete({ role: moveRoleOf(node) }));
}

/** Deletes a node's user and role: etcd rejects its further requests. Watches that it has open stay open. */
export async function removeNodeUser(auth: AuthClient, node: string): Promise<void> {
  const name = etcdUserOf(node);
  await unlessMissing(auth.userDelete({ name }));
  await unlessMissing(auth.roleDelete({ role: name }));
  await removeMoveRole(auth, node);
}

async function addUser(auth: AuthClient, name: string): Promise<void> {
  await unlessExists(auth.userAdd({ name, options: { no_password: true } }));
}

async function putRole(
  auth: AuthClient,
  name: string,
  permissions: readonly Permission[],
  isKept: (prefix: string) => boolean = () => false,
): Promise<void> {
  await unlessExists(auth.roleAdd({ name }));
  await putPermissions(auth, name, permissions, isKept);
}

/** Grants first, so that a node that runs never lacks a permission that it keeps. */
async function putPermissions(
  auth: AuthClient,
  role: string,
  wanted: readonly Permission[],
  isKept: (prefix: string) => boolean,
): Promise<void> {
  const { perm: present } = await auth.roleGet({ role });
  const permissions = wanted.map(toEtcd);
  for (const perm of permissions) {
    if (!present.some((one) => isSame(one, perm))) {
      await auth.roleGrantPermission({ name: role, perm });
    }
  }
  for (const { key, range_end } of present) {
    const isWanted = permissions.some((one) => rangeOf(one) === rangeOf({ key, range_end }));
    if (!isWanted && !isKept(key.toString()))
      await auth.roleRevokePermission({ role, key, range_end });
  }
}

const permTypes = { read: 'Read', write: 'Write', both: 'Readwrite' } as const;

function toEtcd(permission: Permission): IPermission {
  const { access } = permission;
  const permType = permTypes[access];
  if ('key' in permission) {
    return { permType, key: Buffer.from(permission.key), range_end: Buffer.alloc(0) };
  }
  const { prefix } = permission;
  return { permType, key: Buffer.from(prefix), range_end: endOfPrefix(prefix) };
}

function isSame(a: IPermission, b: IPermission): boolean {
  return rangeOf(a) === rangeOf(b) && a.permType.toLowerCase() === b.permType.toLowerCase();
}

/** etcd has one permission per range in a role. */
function rangeOf({ key, range_end }: Pick<IPermission, 'key' | 'range_end'>): string {
  return `${key.toString('hex')}-${range_end.toString('hex')}`;
}

async function unlessExists(request: Promise<unknown>): Promise<void> {
  await unless(request, /already exists/);
}

async function unlessMissing(request: Promise<unknown>): Promise<void> {
  await unless(request, /not found/);
}

/** etcd has no codes for these; the texts are those of its error list (etcd, etcdserver/api/v3rpc/rpctypes). */
async function unless(request: Promise<unknown>, expected: RegExp): Promise<void> {
  try {
    await request;
  } catch (error) {
    if (!expected.test(describe(error))) throw error;
  }
}
