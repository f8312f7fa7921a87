/** Where the records of one user are kept, from the safest to the least safe. */
export type Durability = "indexeddb" | "localstorage" | "memory";

/** Reads and writes that all happen, or none. Keys are ordered as strings. */
export interface StoreTransaction {
  get<T>(key: string): Promise<T | undefined>;
  /** Return the values whose keys begin with `prefix`, in order of their keys. */
  list<T>(prefix: string, limit?: number): Promise<T[]>;
  count(prefix: string): Promise<number>;
  put(key: string, value: unknown): void;
  delete(key: string): void;
}

/** Storage of one user at one endpoint. */
export interface Store {
  readonly durability: Durability;
  /** Resolve once the writes are durable. `work` awaits nothing but its transaction. */
  run<T>(work: (tx: StoreTransaction) => Promise<T>): Promise<T>;
}

const OPEN_PATIENCE_MS = 3_000;
const TABLE = "queue";

const settled = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Open the IndexedDB database of a namespace; reject where there is none, or none that answers. */
export async function openIndexedDb(namespace: string): Promise<Store> {
  const database = await new Promise<IDBDatabase>((resolve, reject) => {
    // Safari has left an open request unanswered.
    const timer = setTimeout(reject, OPEN_PATIENCE_MS);
    const request = indexedDB.open(namespace, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    request.onerror = reject;
    request.onsuccess = () => {
      clearTimeout(timer);
      // Another tab deletes or upgrades it: no waiting for this one.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
  });
  return {
    durability: "indexeddb",
    run: <T>(work: (tx: StoreTransaction) => Promise<T>) =>
      new Promise<T>((resolve, reject) => {
        const transaction = database.transaction(TABLE, "readwrite");
        const table = transaction.objectStore(TABLE);
        const range = (prefix: string) => IDBKeyRange.bound(prefix, prefix + "\uffff");
        let result: T;
        transaction.oncomplete = () => resolve(result);
        transaction.onabort = () => reject(transaction.error);
        work({
          get: (key) => settled(table.get(key)),
          list: (prefix, limit) => settled(table.getAll(range(prefix), limit)),
          count: (prefix) => settled(table.count(range(prefix))),
          put: (key, value) => void table.put(value, key),
          delete: (key) => void table.delete(key),
        })
          .then(
            (value) => void (result = value),
            () => transaction.abort(),
          )
          .catch(() => {}); // it has been aborted already
      }),
  };
}

/** A store of texts: localStorage, or an object that ends with the page. */
function textStore(
  durability: Durability,
  texts: Record<string, string>,
  prefix: string,
  lock?: LockManager,
): Store {
  const keys = (start: string) =>
    Object.keys(texts).filter((key) => key.startsWith(prefix + start)).sort();
  const read = (key: string) => JSON.parse(texts[key] ?? "null") ?? undefined;
  const tx: StoreTransaction = {
    get: async (key) => read(prefix + key),
    list: async (start, limit) => keys(start).slice(0, limit).map(read),
    count: async (start) => keys(start).length,
    put: (key, value) => void (texts[prefix + key] = JSON.stringify(value)),
    delete: (key) => void delete texts[prefix + key],
  };
  let last: Promise<unknown> = Promise.resolve();
  return {
    durability,
    run: (work) => {
      // One after the other: in this tab by the chain, in all tabs by the lock.
      const next = last.then(() =>
        lock ? (lock.request(prefix, () => work(tx)) as ReturnType<typeof work>) : work(tx),
      );
      last = next.catch(() => {});
      return next;
    },
  };
}

/** Open the safest store that works, leaving out the first `skip` kinds. */
export async function openStore(namespace: string, skip = 0): Promise<Store> {
  try {
    if (!skip) return await openIndexedDb(namespace);
    if (skip < 2) return textStore("localstorage", localStorage, namespace + ":", navigator.locks);
  } catch {
    return openStore(namespace, skip + 1);
  }
  return textStore("memory", {}, "");
}
