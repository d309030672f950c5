from django.urls import path

from jobs import media_views, messages_views, openai_views, responses_views

urlpatterns = [
    path("chat/completions", openai_views.chat_completions),
    path("embeddings", openai_views.embeddings),
    path("images/generations", media_views.create_image),
    path("audio/speech", media_views.create_speech),
    path("audio/transcriptions", media_views.create_transcription),
    path("rerank", media_views.create_ranking),
    path("responses", responses_views.create_response),
    path("messages", messages_views.create_message),
    path("models", openai_views.list_models),
    path("models/<str:name>", openai_views.show_model),
]
