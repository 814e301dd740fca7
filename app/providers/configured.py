"""The providers of MODELS_FILE."""

from collections.abc import Mapping
from dataclasses import dataclass

from app import models_file
from app.domain.provider import Provider
from app.models_file import ModelsFile
from app.providers.catalog import ModelOptions
from app.providers.endpoint import Endpoint
from app.providers.simulated import Behaviour, Phase, SimulatedProvider


@dataclass(frozen=True)
class Configured:
    """Providers, and the options of their models by name."""

    providers: list[Provider]
    options: Mapping[str, ModelOptions]


def build(file: ModelsFile) -> Configured:
    """Return what the file configures."""
    providers = [built for entry in file.providers for built in _providers(entry)]
    options = {
        model.name: ModelOptions(
            upstream=model.upstream_name,
            aliases=tuple(model.aliases),
            fallbacks=tuple(model.fallbacks),
            attempt_seconds=entry.timeout,
            context_tokens=model.context_tokens,
            embeddings=model.embeddings,
        )
        for entry in file.providers
        for model in entry.models
    }
    return Configured(providers, options)


def endpoint_of(entry: models_file.Provider) -> Endpoint:
    """Return the endpoint of a provider that is not simulated."""
    assert entry.base_url is not None  # noqa: S101  validated
    key = entry.api_key
    return Endpoint(
        name=entry.name,
        base_url=entry.base_url,
        api_key=key.get_secret_value() if key else None,
        timeout=entry.timeout,
        connect_timeout=entry.connect_timeout,
        max_retries=entry.max_retries,
        headers={name: value.get_secret_value() for name, value in entry.headers.items()},
        query={name: value.get_secret_value() for name, value in entry.query.items()},
        organization=entry.organization,
        project=entry.project,
        azure=entry.azure.form if entry.azure else None,
        api_version=entry.azure.api_version if entry.azure else None,
    )


def _providers(entry: models_file.Provider) -> list[Provider]:
    names = [model.name for model in entry.models]
    if entry.simulated is None:
        return [_openai_compatible(endpoint_of(entry), names)]
    phase = entry.simulated.phase
    behaviour = Behaviour(
        **entry.simulated.model_dump(exclude={"phase"}),
        phase=Phase(**phase.model_dump()) if phase else None,
    )
    simulated: list[Provider] = []
    for name in names:
        provider = SimulatedProvider(behaviour, model=name)
        provider.name = entry.name
        simulated.append(provider)
    return simulated


def _openai_compatible(endpoint: Endpoint, models: list[str]) -> Provider:
    # Its client takes a second to import: only for those who use it.
    from app.providers.endpoint_client import build_client  # noqa: PLC0415
    from app.providers.openai_compatible import OpenAICompatibleProvider  # noqa: PLC0415

    provider = OpenAICompatibleProvider(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key,
        models=models,
        timeout=endpoint.timeout,
        connect_timeout=endpoint.connect_timeout,
        max_retries=endpoint.max_retries,
        client=build_client(endpoint),
    )
    provider.name = endpoint.name
    provider.by_deployment = endpoint.azure == "deployments"
    return provider
