from django.urls import path

from jobs import messages_views, openai_views, responses_views

urlpatterns = [
    path("chat/completions", openai_views.chat_completions),
    path("embeddings", openai_views.embeddings),
    path("responses", responses_views.create_response),
    path("messages", messages_views.create_message),
    path("models", openai_views.list_models),
    path("models/<str:name>", openai_views.show_model),
]
