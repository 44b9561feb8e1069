import type { Metadata } from './fields.ts';

/** Gives a new resource its uid and creation time. */
export type Stamp = <Resource extends { readonly metadata: Metadata }>(
  resource: Resource,
) => Resource;

/** RFC 3339 in UTC with whole seconds, as Calico's client writes it; a random UUID. */
export function createStamp(options: {
  readonly now: () => Date;
  readonly uuid: () => string;
}): Stamp {
  return (resource) => ({
    ...resource,
    metadata: {
      ...resource.metadata,
      uid: options.uuid(),
      creationTimestamp: `${options.now().toISOString().slice(0, 19)}Z`,
    },
  });
}
