import { z } from 'zod';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type ResourceType } from '../resource-type.ts';

const node = resource('Node', z.looseObject({}));

/** A Docker host. Its labels are what pools' node selectors look at. */
export type Node = z.infer<typeof node>;

export const nodeType: ResourceType<Node> = resourceType({
  kind: 'Node',
  plural: 'nodes',
  meaning: 'a Docker host and its labels',
  schema: node,
  columns: [
    nameColumn,
    {
      header: 'labels',
      cell: ({ metadata }) =>
        Object.entries(metadata.labels ?? {})
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
    },
  ],
});
