"""The stand-in in gRPC: the same handlers, between the client's own converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
from qdrant_client import grpc as q
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import qdrant_pb2

from tests.faults.wire import routes
from tests.faults.wire.errors import WireError
from tests.faults.wire.storage import Storage

Call = Callable[[Storage, Any], Any]

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
}


@dataclass(frozen=True)
class RpcFault:
    """What happens to one call.

    Parameters
    ----------
    code : grpc.StatusCode
    retry_after_s : int or None
        Told beside the status, as the server's rate limit does.
    is_applied : bool
        Whether the call changes what is stored nevertheless.
    details : str
    metadata : tuple of (str, str)
        Told beside the status, too.
    """

    code: grpc.StatusCode
    retry_after_s: int | None = None
    is_applied: bool = False
    details: str = "not now"
    metadata: tuple[tuple[str, str], ...] = ()

    def end(self, context: Any) -> NoReturn:
        """End the call so."""
        told = self.metadata
        if self.retry_after_s is not None:
            told = (*told, ("retry-after", str(self.retry_after_s)))
        context.set_trailing_metadata(told)
        context.abort(self.code, self.details)
        raise AssertionError("abort always raises")


def code_of(error: WireError) -> grpc.StatusCode:
    """Return the code that stands for a status of REST."""
    return _CODES[error.status]


def given_fields(request: Any) -> set[str]:
    """Return the names of the fields that a message has."""
    return {field.name for field, _ in request.ListFields()}


# Collections


def _list(storage: Storage, request: q.ListCollectionsRequest) -> q.ListCollectionsResponse:
    names = [q.CollectionDescription(name=name) for name in storage.collections]
    return q.ListCollectionsResponse(collections=names)


def _exists(storage: Storage, request: q.CollectionExistsRequest) -> q.CollectionExistsResponse:
    there = storage.exists(request.collection_name)
    return q.CollectionExistsResponse(result=q.CollectionExists(exists=there))


def _get(storage: Storage, request: q.GetCollectionInfoRequest) -> q.GetCollectionInfoResponse:
    told = storage.describe(request.collection_name)
    info = models.CollectionInfo.model_validate(told)
    described = q.CollectionInfo(
        status=RestToGrpc.convert_collection_status(info.status),
        optimizer_status=RestToGrpc.convert_optimizer_status(info.optimizer_status),
        segments_count=info.segments_count,
        config=RestToGrpc.convert_collection_config(info.config),
        payload_schema=RestToGrpc.convert_payload_schema(info.payload_schema),
        points_count=info.points_count,
    )
    return q.GetCollectionInfoResponse(result=described)


def _create(storage: Storage, request: q.CreateCollection) -> q.CollectionOperationResponse:
    given = given_fields(request)
    plain = ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload")
    config = models.CreateCollection(
        **{name: getattr(request, name) for name in plain if name in given},
        vectors=GrpcToRest.convert_vectors_config(request.vectors_config)
        if "vectors_config" in given
        else None,
        sparse_vectors=GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config)
        or None,
        metadata=GrpcToRest.convert_payload(request.metadata) or None,
        strict_mode_config=GrpcToRest.convert_strict_mode_config(request.strict_mode_config)
        if "strict_mode_config" in given
        else None,
    )
    return _done(storage.create(request.collection_name, config))


def _update(storage: Storage, request: q.UpdateCollection) -> q.CollectionOperationResponse:
    change = GrpcToRest.convert_update_collection(request)
    return _done(storage.update(request.collection_name, change))


def _drop(storage: Storage, request: q.DeleteCollection) -> q.CollectionOperationResponse:
    return _done(storage.drop(request.collection_name))


def _aliases(storage: Storage, request: q.ListAliasesRequest) -> q.ListAliasesResponse:
    pairs = storage.aliases.items()
    told = [q.AliasDescription(alias_name=a, collection_name=c) for a, c in pairs]
    return q.ListAliasesResponse(aliases=told)


def _change_aliases(storage: Storage, request: q.ChangeAliases) -> q.CollectionOperationResponse:
    actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
    return _done(storage.change_aliases(models.ChangeAliasesOperation(actions=actions)))


def _cluster_info(storage: Storage, request: Any) -> q.CollectionClusterInfoResponse:
    told = routes.shards(storage, request.collection_name, peer=0)
    return q.CollectionClusterInfoResponse(
        peer_id=told["peer_id"],
        shard_count=told["shard_count"],
        local_shards=[q.LocalShardInfo(**_shard(shard)) for shard in told["local_shards"]],
        remote_shards=[q.RemoteShardInfo(**_shard(shard)) for shard in told["remote_shards"]],
    )


def _shard(told: dict[str, Any]) -> dict[str, Any]:
    return {
        **told,
        "shard_key": _told_key(told),
        "state": q.ReplicaState.Value(told["state"]),  # type: ignore[attr-defined]  # a protobuf enum
    }


def _told_key(told: dict[str, Any]) -> Any:
    key = told.get("shard_key")
    return None if key is None else RestToGrpc.convert_shard_key(key)


def _done(result: bool) -> q.CollectionOperationResponse:
    return q.CollectionOperationResponse(result=result)


# Points


def _upsert(storage: Storage, request: q.UpsertPoints) -> q.PointsOperationResponse:
    _note_ordering(storage, request)
    for point in request.points:
        if not point.HasField("vectors"):  # the client cannot read a point that has none
            point.vectors.vectors.SetInParent()
    write = models.PointsList(
        points=[GrpcToRest.convert_point_struct(point) for point in request.points],
        shard_key=_key(request),
        update_filter=_filter(request, "update_filter"),
        update_mode=_mode(request),
    )
    return _updated(routes.upsert(storage, request.collection_name, write))


def _mode(request: Any) -> models.UpdateMode | None:
    if not request.HasField("update_mode"):
        return None
    return GrpcToRest.convert_update_mode(request.update_mode)


def _update_vectors(storage: Storage, request: q.UpdatePointVectors) -> q.PointsOperationResponse:
    _note_ordering(storage, request)
    change = models.UpdateVectors(
        points=[GrpcToRest.convert_point_vectors(point) for point in request.points],
        shard_key=_key(request),
        update_filter=_filter(request, "update_filter"),
    )
    return _updated(routes.update_vectors(storage, request.collection_name, change))


def _set_payload(storage: Storage, request: q.SetPayloadPoints) -> q.PointsOperationResponse:
    _note_ordering(storage, request)
    selected: Any = GrpcToRest.convert_points_selector(request.points_selector)
    payload = GrpcToRest.convert_payload(request.payload)
    change = models.SetPayload(payload=payload, points=selected.points, shard_key=_key(request))
    return _updated(routes.set_payload(storage, request.collection_name, change))


def _delete(storage: Storage, request: q.DeletePoints) -> q.PointsOperationResponse:
    _note_ordering(storage, request)
    selected: Any = GrpcToRest.convert_points_selector(request.points)
    selected.shard_key = _key(request)
    return _updated(routes.delete(storage, request.collection_name, selected))


def _index(storage: Storage, request: q.CreateFieldIndexCollection) -> q.PointsOperationResponse:
    name = q.FieldType.Name(request.field_type)  # type: ignore[attr-defined]  # a protobuf enum
    kind = models.PayloadSchemaType(name.removeprefix("FieldType").lower())
    index = models.CreateFieldIndex(field_name=request.field_name, field_schema=kind)
    return _updated(routes.index(storage, request.collection_name, index))


def _add_vector(storage: Storage, request: Any) -> q.PointsOperationResponse:
    is_dense = request.HasField("dense_config")
    config = _dense(request.dense_config) if is_dense else _sparse(request.sparse_config)
    return _updated(
        routes.add_vector(storage, request.collection_name, request.vector_name, config)
    )


def _dense(given: Any) -> models.DenseVectorNameConfig:
    dense = models.DenseVectorConfig(
        size=given.size,
        distance=GrpcToRest.convert_distance(given.distance),
        multivector_config=GrpcToRest.convert_multivector_config(given.multivector_config)
        if given.HasField("multivector_config")
        else None,
        datatype=_datatype(given),
    )
    return models.DenseVectorNameConfig(dense=dense)


def _sparse(given: Any) -> models.SparseVectorNameConfig:
    sparse = models.SparseVectorConfig(
        modifier=GrpcToRest.convert_modifier(given.modifier)
        if given.HasField("modifier")
        else None,
        datatype=_datatype(given),
    )
    return models.SparseVectorNameConfig(sparse=sparse)


def _datatype(given: Any) -> models.VectorStorageDatatype | None:
    if not given.datatype:
        return None
    return models.VectorStorageDatatype(GrpcToRest.convert_datatype(given.datatype).value)


def _drop_vector(storage: Storage, request: Any) -> q.PointsOperationResponse:
    return _updated(routes.drop_vector(storage, request.collection_name, request.vector_name))


def _updated(result: Any) -> q.PointsOperationResponse:
    status = q.UpdateStatus.Completed  # type: ignore[attr-defined]  # a protobuf enum
    return q.PointsOperationResponse(
        result=q.UpdateResult(operation_id=result["operation_id"], status=status)
    )


def _retrieve(storage: Storage, request: q.GetPoints) -> q.GetResponse:
    asked = models.PointRequest(
        ids=[GrpcToRest.convert_point_id(i) for i in request.ids],
        shard_key=_key(request),
        **_selection(request),
    )
    return q.GetResponse(result=_records(routes.retrieve(storage, request.collection_name, asked)))


def _scroll(storage: Storage, request: q.ScrollPoints) -> q.ScrollResponse:
    offset = GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None
    asked = models.ScrollRequest(
        offset=offset,
        limit=request.limit,
        filter=_filter(request),
        shard_key=_key(request),
        **_selection(request),
    )
    page = routes.scroll(storage, request.collection_name, asked, reads_all=_reads_all(request))
    following = page["next_page_offset"]
    return q.ScrollResponse(
        result=_records(page["points"]),
        next_page_offset=None
        if following is None
        else RestToGrpc.convert_extended_point_id(following),
    )


def _count(storage: Storage, request: q.CountPoints) -> q.CountResponse:
    asked = models.CountRequest(
        filter=_filter(request), exact=request.exact, shard_key=_key(request)
    )
    found = routes.count(storage, request.collection_name, asked)
    return q.CountResponse(result=q.CountResult(count=found["count"]))


def _query(storage: Storage, request: q.QueryBatchPoints) -> q.QueryBatchResponse:
    searches = [GrpcToRest.convert_query_points(one) for one in request.query_points]
    asked = models.QueryRequestBatch(searches=searches)
    answers = routes.query(storage, request.collection_name, asked, reads_all=_reads_all(request))
    return q.QueryBatchResponse(
        result=[
            q.BatchResult(
                result=[
                    q.ScoredPoint(
                        id=RestToGrpc.convert_extended_point_id(hit["id"]),
                        score=hit["score"],
                        shard_key=_told_key(hit),
                    )
                    for hit in found["points"]
                ]
            )
            for found in answers
        ]
    )


def _reads_all(request: Any) -> bool:
    given = request.HasField("read_consistency")
    return given and request.read_consistency.type == q.ReadConsistencyType.All  # type: ignore[attr-defined]  # a protobuf enum


def _note_ordering(storage: Storage, request: Any) -> None:
    given = request.HasField("ordering")
    name = q.WriteOrderingType.Name(request.ordering.type).lower() if given else None  # type: ignore[attr-defined]
    storage.cluster.orderings.append(name)


def _key(request: Any) -> Any:
    if not request.HasField("shard_key_selector"):
        return None
    return GrpcToRest.convert_shard_key_selector(request.shard_key_selector)


def _filter(request: Any, name: str = "filter") -> models.Filter | None:
    return GrpcToRest.convert_filter(getattr(request, name)) if request.HasField(name) else None


def _selection(request: Any) -> dict[str, Any]:
    payload, vectors = request.with_payload, request.with_vectors
    return {
        "with_payload": GrpcToRest.convert_with_payload_selector(payload)
        if request.HasField("with_payload")
        else None,
        "with_vector": GrpcToRest.convert_with_vectors_selector(vectors)
        if request.HasField("with_vectors")
        else None,
    }


def _records(found: list[dict[str, Any]]) -> list[q.RetrievedPoint]:
    return [
        q.RetrievedPoint(
            id=RestToGrpc.convert_extended_point_id(one["id"]),
            payload=RestToGrpc.convert_payload(one.get("payload") or {}),
            shard_key=_told_key(one),
            vectors=_vectors(one["vector"]) if one.get("vector") else None,
        )
        for one in found
    ]


def _vectors(told: Any) -> q.VectorsOutput:
    if isinstance(told, dict):
        is_sparse = {name: isinstance(vector, dict) for name, vector in told.items()}
        told = {n: models.SparseVector(**v) if is_sparse[n] else v for n, v in told.items()}
    return RestToGrpc.convert_vector_struct_output(told)


COLLECTIONS: dict[str, Call] = {
    "List": _list,
    "CollectionExists": _exists,
    "Get": _get,
    "Create": _create,
    "Update": _update,
    "Delete": _drop,
    "ListAliases": _aliases,
    "UpdateAliases": _change_aliases,
    "CollectionClusterInfo": _cluster_info,
}
POINTS: dict[str, Call] = {
    "Upsert": _upsert,
    "UpdateVectors": _update_vectors,
    "SetPayload": _set_payload,
    "Delete": _delete,
    "CreateFieldIndex": _index,
    "CreateVectorName": _add_vector,
    "DeleteVectorName": _drop_vector,
    "Get": _retrieve,
    "Scroll": _scroll,
    "Count": _count,
    "QueryBatch": _query,
}


def health(version: str) -> Call:
    """Return the call that tells the version."""
    told = qdrant_pb2.HealthCheckReply(title="qdrant - vector search engine", version=version)
    return lambda storage, request: told


def servicer(base: type, calls: dict[str, Call], answer: Callable[..., Any]) -> Any:
    """Return a servicer whose calls go through `answer`; all others stay unimplemented."""

    def method(name: str, call: Call) -> Any:
        return lambda self, request, context: answer(name, call, request, context)

    return type(base.__name__, (base,), {name: method(name, c) for name, c in calls.items()})()
